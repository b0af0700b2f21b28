"""From rows to records, and the few statements that every part of storage needs."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, insert, select, update

from service.records import AttemptRecord, JobRecord, ProgressRecord
from service.storage.errors import UnknownJob
from service.storage.tables import attempts, events, jobs, progress
from vishwamai.contract.problems import Notice
from vishwamai.contract.reports import GoodputEvent
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import Cause, JobState


def put(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Writes one row whether or not it was there; the caller holds the job's lock."""
    where = and_(*(table.c[name] == value for name, value in key.items()))
    if connection.execute(update(table).where(where).values(**values)).rowcount == 0:
        connection.execute(insert(table).values(**key, **values))


def lock_job(connection: Connection, job_id: str) -> Row[Any]:
    """The job's row, held until the transaction ends, so that all writes about one job stand in line."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).one_or_none()
    if row is None:
        raise UnknownJob(job_id)
    return row


def newest_attempt(connection: Connection, job_id: str) -> Row[Any] | None:
    """The row of the job's newest attempt."""
    query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number.desc()).limit(1)
    return connection.execute(query).one_or_none()


def add_event(
    connection: Connection,
    job_id: str,
    time: datetime,
    attempt: int | None,
    kind: str,
    message: str,
    data: Mapping[str, Any],
) -> None:
    """Adds one thing that happened to the job's history."""
    connection.execute(
        insert(events).values(job_id=job_id, time=time, attempt=attempt, kind=kind, message=message, data=dict(data))
    )


def job_records(connection: Connection, rows: Iterable[Row[Any]]) -> list[JobRecord]:
    """Records of the given rows of `jobs`, each with its attempts."""
    rows = list(rows)
    lives: dict[str, list[AttemptRecord]] = {row.id: [] for row in rows}
    query = select(attempts).where(attempts.c.job_id.in_(lives)).order_by(attempts.c.number)
    for row in connection.execute(query):
        lives[row.job_id].append(_attempt_record(row))
    return [_job_record(row, tuple(lives[row.id])) for row in rows]


def progress_records(connection: Connection, job_ids: Iterable[str]) -> dict[str, ProgressRecord]:
    """How far each of these jobs has come."""
    query = select(progress).where(progress.c.job_id.in_(list(job_ids)))
    found = [dict(row) for row in connection.execute(query).mappings()]
    for row in found:
        row["notices"] = {code: Notice.model_validate(notice) for code, notice in (row["notices"] or {}).items()}
    return {row.pop("job_id"): ProgressRecord(**row) for row in found}


def _job_record(row: Row[Any], lives: tuple[AttemptRecord, ...]) -> JobRecord:
    return JobRecord(
        id=row.id,
        name=row.name,
        state=JobState(row.state),
        code=row.code,
        reason=row.reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
        resolved=ResolvedJob.model_validate_json(row.resolved),
        attempts=lives,
        stop=row.stop,
        stop_requested_at=row.stop_requested_at,
        retried_at_attempt=row.retried_at_attempt,
        restore_step=row.restore_step,
        ended_at=row.ended_at,
        saves_asked=row.saves_asked,
        saves_answered=row.saves_answered,
    )


def _attempt_record(row: Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        number=row.number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        first_step=row.first_step,
        last_step=row.last_step,
        resumed_from=row.resumed_from,
        exit_codes={int(process): code for process, code in row.exit_codes.items()},
        reported_cause=Cause(row.reported_cause) if row.reported_cause else None,
        reported_message=row.reported_message,
        cause=Cause(row.cause) if row.cause else None,
        message=row.message,
        goodput=GoodputEvent.model_validate(row.goodput) if row.goodput else None,
    )
