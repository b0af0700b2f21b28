"""What may happen to a job, each as one step inside the caller's transaction. Every function may be repeated."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, update

from service.records import JobRecord, Stop
from service.storage.errors import ForbiddenMove
from service.storage.rows import add_event, lock_job, newest_attempt
from service.storage.tables import attempts, jobs, labels, progress
from vishwamai.contract.states import TRANSITIONS, Cause, JobState


def create(connection: Connection, record: JobRecord) -> None:
    """Stores a new job."""
    run, accelerator = record.resolved.effective.run, record.resolved.hardware.accelerator
    words = [record.id, record.name, run.notes, *run.tags, *(f"{key}={value}" for key, value in run.labels.items())]
    connection.execute(
        insert(jobs).values(
            id=record.id,
            name=record.name,
            state=record.state,
            code=record.code,
            reason=record.reason,
            accelerator=accelerator,
            created_at=record.created_at,
            updated_at=record.updated_at,
            resolved=record.resolved.model_dump_json(),
            search="\n".join(words).lower(),
            retried_at_attempt=0,
        )
    )
    if run.labels:
        rows = [{"job_id": record.id, "key": key, "value": value} for key, value in run.labels.items()]
        connection.execute(insert(labels), rows)
    connection.execute(insert(progress).values(job_id=record.id, step=0, tokens=0, effective={}))
    _tell_state(connection, record.id, None, record.state, record.code, record.reason, record.created_at)


def move(
    connection: Connection,
    job_id: str,
    state: JobState,
    code: str,
    reason: str,
    now: datetime,
    *,
    was: tuple[JobState, str] | None = None,
) -> None:
    """Brings the job into a state, or gives it another reason for the one it is in. Raises ForbiddenMove.

    A job that is over stays so: only `retry` starts it again. With `was`, nothing but a job of that state and code
    moves: a decision made on what the caller read before must not undo what has happened since.
    """
    row = lock_job(connection, job_id)
    old = JobState(row.state)
    if (old, row.code, row.reason) == (state, code, reason):
        return
    if was is not None and was != (old, row.code):
        raise ForbiddenMove(job_id, old, f"become {state} now, for its code was {was[1]} and is {row.code}")
    if old != state and (old.is_terminal or state not in TRANSITIONS[old]):
        raise ForbiddenMove(job_id, old, f"become {state}")
    _enter(connection, row, state, code, reason, now)


def _enter(connection: Connection, row: Row[Any], state: JobState, code: str, reason: str, now: datetime) -> None:
    job_id = row.id
    values = {"state": state, "code": code, "reason": reason, "updated_at": now}
    if row.state != state:
        values["ended_at"] = now if state.is_terminal else None
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    # A reason that only words the same code anew (a counter, a time left) is no news for the history.
    if (row.state, row.code) != (state, code):
        life = newest_attempt(connection, job_id)
        _tell_state(connection, job_id, life.number if life else None, state, code, reason, now)


def begin_attempt(connection: Connection, job_id: str, number: int, now: datetime) -> None:
    """Records that attempt `number` begins. Raises ForbiddenMove when the job is over or the number is not the next."""
    row, life = lock_job(connection, job_id), newest_attempt(connection, job_id)
    newest = life.number if life else 0
    if number == newest:
        return
    if JobState(row.state).is_terminal or number != newest + 1:
        raise ForbiddenMove(job_id, JobState(row.state), f"begin attempt {number} (newest: {newest})")
    connection.execute(insert(attempts).values(job_id=job_id, number=number, started_at=now, exit_codes={}))
    connection.execute(update(progress).where(progress.c.job_id == job_id).values(notices=None))
    add_event(connection, job_id, now, number, "attempt", f"Attempt {number} begins.", {"number": number})


def end_attempt(
    connection: Connection,
    job_id: str,
    number: int,
    *,
    ended_at: datetime,
    exit_codes: Mapping[int, int],
    cause: Cause,
    message: str,
    last_lines: Sequence[str],
) -> None:
    """Records how attempt `number` ended; an end already recorded stays as it is."""
    lock_job(connection, job_id)
    ended = connection.execute(
        update(attempts)
        .where(attempts.c.job_id == job_id, attempts.c.number == number, attempts.c.ended_at.is_(None))
        .values(
            ended_at=ended_at,
            exit_codes={str(process): code for process, code in exit_codes.items()},
            cause=cause,
            message=message,
        )
    )
    if ended.rowcount:
        data = {
            "number": number,
            "cause": cause,
            "exit_codes": {str(process): code for process, code in exit_codes.items()},
            "last_lines": list(last_lines),
        }
        add_event(connection, job_id, ended_at, number, "attempt", f"Attempt {number} ended: {message}", data)


def request_stop(connection: Connection, job_id: str, stop: Stop, now: datetime) -> None:
    """Notes that the job's owner wants it stopped; one that never began is cancelled here and now.

    Asking again changes nothing, except that "now" overrides "save". Raises ForbiddenMove when the job has
    succeeded or failed.
    """
    row = lock_job(connection, job_id)
    state = JobState(row.state)
    if state is JobState.CANCELLED or row.stop in {stop, "now"}:
        return
    if state.is_terminal:
        raise ForbiddenMove(job_id, state, "be cancelled")
    values = {"stop": stop, "stop_requested_at": row.stop_requested_at or now, "updated_at": now}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    life = newest_attempt(connection, job_id)
    how = "after saving" if stop == "save" else "at once"
    add_event(connection, job_id, now, life.number if life else None, "stop", f"Asked to stop {how}.", {"stop": stop})
    if state is JobState.QUEUED and (life is None or life.ended_at is not None):
        move(connection, job_id, JobState.CANCELLED, "cancelled", "Cancelled before it began.", now)


def request_save(connection: Connection, job_id: str, now: datetime) -> None:
    """Notes that the owner wants a checkpoint; a request that has no answer yet stands for this one, too.

    A job between two attempts saves when it trains again. Raises ForbiddenMove for one that is queued, or at rest.
    """
    row = lock_job(connection, job_id)
    state = JobState(row.state)
    if state.is_terminal or state in {JobState.QUEUED, JobState.SUSPENDED}:
        raise ForbiddenMove(job_id, state, "save a checkpoint: only a job that runs can")
    if row.saves_asked > row.saves_answered:
        return
    values = {"saves_asked": row.saves_asked + 1, "updated_at": now}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    life = newest_attempt(connection, job_id)
    add_event(connection, job_id, now, life.number if life else None, "save", "Asked to save a checkpoint.", {})


def retry(connection: Connection, job_id: str, restore_step: int | None, now: datetime) -> None:
    """Queues a failed or cancelled job again. Raises ForbiddenMove for any other not yet queued so."""
    row, life = lock_job(connection, job_id), newest_attempt(connection, job_id)
    newest = life.number if life else 0
    if row.state == JobState.QUEUED and (row.retried_at_attempt, row.restore_step) == (newest, restore_step):
        return
    if row.state not in {JobState.FAILED, JobState.CANCELLED}:
        raise ForbiddenMove(job_id, JobState(row.state), "be retried: only a failed or cancelled job can")
    values = {"retried_at_attempt": newest, "restore_step": restore_step, "stop": None, "stop_requested_at": None}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    start = "its newest checkpoint" if restore_step is None else f"the checkpoint of step {restore_step}"
    _enter(connection, row, JobState.QUEUED, "retried", f"Asked to go on from {start}.", now)


def _tell_state(
    connection: Connection,
    job_id: str,
    attempt: int | None,
    state: JobState,
    code: str,
    reason: str,
    now: datetime,
) -> None:
    add_event(connection, job_id, now, attempt, "state", reason, {"state": state, "code": code})
