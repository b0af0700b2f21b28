"""Store: one method per question or change, each in a short transaction of its own, no network inside.

All methods block; coroutines call them through a thread. Changes are on disk when a method returns.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, Select, and_, exists, func, insert, select

from service.records import JobRecord, ProgressRecord, Stop
from service.storage import history, life, logs, series
from service.storage.database import connect, migrate, reading, writing
from service.storage.errors import KeyReused
from service.storage.intake import USUAL, Receipt, Retention, store_report
from service.storage.rows import job_records, progress_records
from service.storage.tables import idempotency_keys, jobs, labels
from vishwamai.contract.api import Checkpoint, JobEvent, LogLine
from vishwamai.contract.reports import Report
from vishwamai.contract.states import Cause, JobState

_TERMINAL = [state for state in JobState if state.is_terminal]


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; every condition given must hold."""

    states: Collection[JobState] = ()
    labels: Collection[tuple[str, str]] = ()
    """Each a key and its value; a job must carry them all."""
    name: str | None = None
    accelerator: str | None = None
    text: str | None = None
    """Part of the id, the name, the notes, a label (key=value) or a tag; case does not matter."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None
    """Go on below this job: the last of the page before."""


class Store:
    """All that the service remembers. Every method may raise DatabaseError when the database fails."""

    def __init__(
        self,
        engine: Engine,
        *,
        kept: Retention = USUAL,
        on_change: Callable[[str], None] = lambda job_id: None,
    ) -> None:
        self._engine = engine
        self._kept = kept
        self._on_change = on_change

    @classmethod
    def open(
        cls, url: str, *, kept: Retention = USUAL, on_change: Callable[[str], None] = lambda job_id: None
    ) -> "Store":
        """Connects, brings the tables up to date, and raises DatabaseError where that cannot be.

        `on_change` is called with a job's id after each change to it is on disk, in the thread that made the change.
        """
        engine = connect(url)
        migrate(engine)
        return cls(engine, kept=kept, on_change=on_change)

    def close(self) -> None:
        """Lets go of all connections."""
        self._engine.dispose()

    # What reconcile and operations do to a job. See life.py for what each refuses.

    def create(self, record: JobRecord, *, key: str | None = None, request_hash: str = "") -> str:
        """Stores a new job and answers its id, or the id of the job that this idempotency key made before.

        Raises KeyReused when the key was used for a request of another hash.
        """
        with writing(self._engine) as connection:
            if key is not None:
                query = select(idempotency_keys).where(idempotency_keys.c.key == key)
                if used := connection.execute(query).one_or_none():
                    if used.request_hash != request_hash:
                        raise KeyReused(key, used.job_id)
                    return str(used.job_id)
            life.create(connection, record)
            if key is not None:
                values = {"key": key, "request_hash": request_hash, "created_at": record.created_at}
                connection.execute(insert(idempotency_keys).values(job_id=record.id, **values))
        self._on_change(record.id)
        return record.id

    def move(
        self,
        job_id: str,
        state: JobState,
        code: str,
        reason: str,
        now: datetime,
        *,
        was: tuple[JobState, str] | None = None,
    ) -> None:
        """Brings the job into a state with its reason; repeating changes nothing. Raises UnknownJob, ForbiddenMove.

        A report or its owner may have moved the job meanwhile, so a caller that acts on what it read before says what
        the state and code were, and is ready for ForbiddenMove and to read again.
        """
        with self._changing(job_id) as connection:
            life.move(connection, job_id, state, code, reason, now, was=was)

    def begin_attempt(self, job_id: str, number: int, now: datetime) -> None:
        """Records that attempt `number` begins; repeating changes nothing. Raises UnknownJob, ForbiddenMove."""
        with self._changing(job_id) as connection:
            life.begin_attempt(connection, job_id, number, now)

    def end_attempt(
        self,
        job_id: str,
        number: int,
        *,
        ended_at: datetime,
        exit_codes: Mapping[int, int],
        cause: Cause,
        message: str,
        last_lines: Sequence[str] = (),
    ) -> None:
        """Records how attempt `number` ended; the first end recorded stays. Raises UnknownJob."""
        with self._changing(job_id) as connection:
            life.end_attempt(
                connection,
                job_id,
                number,
                ended_at=ended_at,
                exit_codes=exit_codes,
                cause=cause,
                message=message,
                last_lines=last_lines,
            )

    def request_stop(self, job_id: str, stop: Stop, now: datetime) -> None:
        """Notes that the owner wants the job stopped; repeating changes nothing. Raises UnknownJob, ForbiddenMove."""
        with self._changing(job_id) as connection:
            life.request_stop(connection, job_id, stop, now)

    def request_save(self, job_id: str, now: datetime) -> None:
        """Notes that the owner wants a checkpoint; repeating changes nothing. Raises UnknownJob, ForbiddenMove."""
        with self._changing(job_id) as connection:
            life.request_save(connection, job_id, now)

    def retry(self, job_id: str, restore_step: int | None, now: datetime) -> None:
        """Queues a failed or cancelled job again. Raises UnknownJob, ForbiddenMove."""
        with self._changing(job_id) as connection:
            life.retry(connection, job_id, restore_step, now)

    def store_report(self, job_id: str, report: Report, now: datetime) -> Receipt:
        """Stores a trainer's report unless it is a repeat. Raises UnknownJob, FencedAttempt."""
        with self._changing(job_id) as connection:
            return store_report(connection, job_id, report, now, self._kept)

    # What they ask.

    def job(self, job_id: str) -> JobRecord | None:
        """The job with its attempts."""
        with reading(self._engine) as connection:
            records = job_records(connection, connection.execute(select(jobs).where(jobs.c.id == job_id)))
        return records[0] if records else None

    def live_jobs(self) -> list[JobRecord]:
        """All jobs that are not over, oldest first."""
        query = select(jobs).where(jobs.c.state.not_in(_TERMINAL)).order_by(jobs.c.id)
        with reading(self._engine) as connection:
            return job_records(connection, connection.execute(query))

    def find(self, wanted: JobFilter, limit: int) -> list[JobRecord]:
        """At most `limit` jobs, newest first."""
        query = _matching(wanted).order_by(jobs.c.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            return job_records(connection, connection.execute(query))

    def progress(self, job_ids: Collection[str]) -> dict[str, ProgressRecord]:
        """How far each of these jobs has come."""
        with reading(self._engine) as connection:
            return progress_records(connection, job_ids)

    def jobs_by_state(self) -> dict[JobState, int]:
        """How many jobs there are in each state that has any."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
            return {JobState(state): count for state, count in rows}

    def events(self, job_id: str, *, after: int = 0, limit: int = 1000, kinds: Collection[str] = ()) -> list[JobEvent]:
        """What happened to the job after the event `after`, oldest first."""
        with reading(self._engine) as connection:
            return history.read_events(connection, job_id, after=after, limit=limit, kinds=kinds)

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Committed checkpoints that are still there, newest first."""
        with reading(self._engine) as connection:
            return history.read_checkpoints(connection, job_id)

    def log(self, job_id: str, wanted: logs.LogFilter) -> tuple[list[LogLine], int]:
        """Log lines, and the id to go on from."""
        with reading(self._engine) as connection:
            return logs.read(connection, job_id, wanted)

    def series(self, job_id: str, names: Collection[str] | None = None) -> dict[str, list[series.Point]]:
        """Points of each metric (all, or those named) by rising step, each step once: the newest attempt's."""
        with reading(self._engine) as connection:
            return series.read(connection, job_id, names)

    @contextmanager
    def _changing(self, job_id: str) -> Iterator[Connection]:
        with writing(self._engine) as connection:
            yield connection
        self._on_change(job_id)


def _matching(wanted: JobFilter) -> Select[tuple[object, ...]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.states:
        conditions.append(jobs.c.state.in_(list(wanted.states)))
    if wanted.name is not None:
        conditions.append(jobs.c.name == wanted.name)
    if wanted.accelerator is not None:
        conditions.append(jobs.c.accelerator == wanted.accelerator)
    if wanted.text is not None:
        conditions.append(jobs.c.search.contains(wanted.text.lower(), autoescape=True))
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    if wanted.before_id is not None:
        conditions.append(jobs.c.id < wanted.before_id)
    for key, value in wanted.labels:
        conditions.append(exists().where(labels.c.job_id == jobs.c.id, labels.c.key == key, labels.c.value == value))
    return select(jobs).where(and_(True, *conditions))
