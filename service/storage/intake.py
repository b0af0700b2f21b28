"""Taking in a trainer's report: each event to its table, once, and the job's state after it."""

import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from service.records import Stop
from service.storage import life, logs, series
from service.storage.errors import FencedAttempt, Unstorable
from service.storage.rows import add_event, lock_job, newest_attempt, put
from service.storage.tables import attempts, checkpoints, evals, jobs, progress, report_cursors, steps
from service.wording import sentence
from vishwamai.contract.config import MAIN_SET
from vishwamai.contract.reports import (
    AnyEvent,
    CheckpointEvent,
    EffectiveEvent,
    EvalEvent,
    FinishedEvent,
    GoodputEvent,
    LogEvent,
    NoticeEvent,
    PhaseEvent,
    Report,
    RewindEvent,
    SampleEvent,
    StepEvent,
)
from vishwamai.contract.states import JobState

REPORTS_BETWEEN_THINNING = 20
_GETTING_READY = {"starting", "restoring", "compiling"}
_AT_WORK = {"training", "caching"}
_NOT_RUNNING_YET = {JobState.QUEUED, JobState.PROVISIONING, JobState.STARTING, JobState.RESTARTING}
_STEP_COLUMNS = (
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens",
    "tokens_per_second",
    "step_seconds",
    "data_wait_seconds",
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a report, and what the job's owner wants."""

    accepted: bool
    """False: a repeat, already stored."""
    seq: int
    """Highest number stored for this attempt and process."""
    state: JobState
    stop: Stop | None
    save: int | None = None
    """Number of a request for a checkpoint that has no answer yet."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of what a job's trainers tell is kept."""

    log_bytes: int = 64 << 20
    """Compressed log lines; beyond that the oldest go."""
    steps: int = 100_000
    """Logged steps; beyond that every other one goes."""


USUAL = Retention()


def store_report(connection: Connection, job_id: str, report: Report, now: datetime, kept: Retention) -> Receipt:
    """Stores the report's events unless they are stored already. Raises UnknownJob, FencedAttempt."""
    job, attempt = lock_job(connection, job_id), newest_attempt(connection, job_id)
    if attempt is None or attempt.number != report.attempt:
        raise FencedAttempt(job_id, report.attempt, attempt.number if attempt else 0)
    key = {"job_id": job_id, "attempt": report.attempt, "process": report.process}
    query = select(report_cursors.c.seq).where(*(report_cursors.c[name] == value for name, value in key.items()))
    stored = connection.execute(query).scalar_one_or_none() or 0
    if report.seq <= stored:
        return Receipt(False, stored, JobState(job.state), job.stop, _open_request(job))
    put(connection, report_cursors, key, {"seq": report.seq})
    intake = _Intake(connection, report, now, attempt, JobState(job.state), job.code, _open_request(job))
    for event in report.events:
        intake.take(event)
    intake.flush(kept.log_bytes)
    if report.seq % REPORTS_BETWEEN_THINNING == 0:
        series.thin(connection, job_id, kept.steps)
    return Receipt(True, report.seq, intake.state, job.stop, intake.save)


def _open_request(job: Row[Any]) -> int | None:
    return int(job.saves_asked) if job.saves_asked > job.saves_answered else None


@dataclass(slots=True)
class _Intake:
    """One report on its way into the tables; rows that several events touch are written once, by flush."""

    connection: Connection
    report: Report
    now: datetime
    attempt: Row[Any]
    state: JobState
    code: str
    save: int | None
    lines: list[LogEvent] = field(default_factory=list)
    step_rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    life: dict[str, Any] = field(default_factory=dict)
    """Columns of the attempt that changed."""

    @property
    def key(self) -> dict[str, Any]:
        """The attempt's key."""
        return {"job_id": self.attempt.job_id, "attempt": self.attempt.number}

    @property
    def _has_trained(self) -> bool:
        return self.attempt.first_step is not None or "first_step" in self.life

    def take(self, event: AnyEvent) -> None:
        """Sorts one event to where it belongs."""
        match event:
            case LogEvent():
                self.lines.append(event)
            case StepEvent():
                self._step(event)
            case PhaseEvent():
                self._phase(event)
            case EvalEvent():
                self._eval(event)
            case CheckpointEvent():
                self._checkpoint(event)
            case EffectiveEvent():
                self.progress["effective"] = _plain(event)["settings"]
                self._tell(event, "What really runs, as the trainer found it.")
            case SampleEvent():
                self.progress["sample"] = event.text
                self._tell(event, f"Sample at step {event.step}.")
            case RewindEvent():
                self._rewind(event)
            case GoodputEvent():
                self._goodput(event)
            case NoticeEvent():
                self._notice(event)
            case FinishedEvent():
                self._finished(event)

    def flush(self, log_bytes: int) -> None:
        """Writes what was gathered."""
        if self.step_rows:
            same = [steps.c[name] == value for name, value in self.key.items()]
            parameters = [{"at": step} for step in self.step_rows]
            self.connection.execute(delete(steps).where(*same, steps.c.step == bindparam("at")), parameters)
            self.connection.execute(insert(steps), list(self.step_rows.values()))
        if self.life:
            where = (attempts.c.job_id == self.attempt.job_id, attempts.c.number == self.attempt.number)
            self.connection.execute(update(attempts).where(*where).values(**self.life))
        put(self.connection, progress, {"job_id": self.attempt.job_id}, self.progress | {"reported_at": self.now})
        job_id, number = self.attempt.job_id, self.attempt.number
        logs.append(self.connection, job_id, number, self.report.process, self.lines, cap=log_bytes)

    def _step(self, event: StepEvent) -> None:
        values = {name: getattr(event, name) for name in _STEP_COLUMNS}
        parts = {name: value for name, value in (event.parts or {}).items() if math.isfinite(value)} or None
        self.step_rows[event.step] = {**self.key, "step": event.step, "time": event.time, **values, "parts": parts}
        for name in ("step", "loss", "learning_rate", "tokens", "tokens_per_second", "step_seconds"):
            self.progress[name] = getattr(event, name)
        self.life["last_step"] = event.step
        self._trains()

    def _phase(self, event: PhaseEvent) -> None:
        self.progress |= {"phase": event.phase, "step": event.step}
        # Evaluating, saving and training again go on all the time: where the run is, but no news for its history.
        if event.phase in {*_GETTING_READY, "finishing"} or (event.phase in _AT_WORK and not self._has_trained):
            self._tell(event, event.message or f"{event.phase.capitalize()} at step {event.step}.")
        if event.phase == "training":
            self._trains()
        elif event.phase == "caching":
            self.life["last_step"] = event.step
            self._trains("caching", "is caching its teacher")
        elif event.phase in _GETTING_READY and self.state in _NOT_RUNNING_YET:
            reason = sentence(event.message or f"The trainer is {event.phase}.")
            self._move(JobState.STARTING, event.phase, reason)

    def _trains(self, code: str = "training", does: str = "is training") -> None:
        """The attempt is past its start: the job runs, and what it does from here on is its own."""
        if not self._has_trained:
            resumed_from = self.life.get("resumed_from", self.attempt.resumed_from)
            self.life["first_step"] = (resumed_from or 0) + 1
        if self.state is JobState.QUEUED:  # a quick trainer reports before reconcile has noted its start
            self._move(JobState.STARTING, "starting", "The trainer is starting.")
        if self.state in _NOT_RUNNING_YET or (self.state is JobState.RUNNING and self.code != code):
            self._move(JobState.RUNNING, code, f"Attempt {self.attempt.number} {does}.")

    def _eval(self, event: EvalEvent) -> None:
        values = event.model_dump(include={"time", "loss", "perplexity", "bits_per_byte", "tokens", "seconds"})
        put(self.connection, evals, {**self.key, "name": event.name, "step": event.step}, values)
        if event.main:
            self.progress["eval_loss"] = event.loss
        on = "" if event.name == MAIN_SET else f" on {event.name}"
        figures = f"loss {event.loss:.4f}, perplexity {event.perplexity:.2f}"
        if event.bits_per_byte is not None:
            figures += f", {event.bits_per_byte:.4f} bits per byte"
        self._tell(event, f"Evaluation{on} at step {event.step}: {figures}.")

    def _checkpoint(self, event: CheckpointEvent) -> None:
        key = {"job_id": self.attempt.job_id, "step": event.step}
        if event.action == "committed":
            self._keep(event, seconds=event.seconds)
            if self._has_trained:  # it is there, so its step was taken, whatever was logged
                self.life["last_step"] = max(event.step, self.life.get("last_step", self.attempt.last_step) or 0)
        elif event.action in {"deleted", "corrupt"}:
            self.connection.execute(delete(checkpoints).where(*(checkpoints.c[c] == v for c, v in key.items())))
        elif event.action == "restored":
            self.life["resumed_from"] = self.progress["step"] = event.step
            if event.committed is not None:
                self._compare(event, event.committed)
        if event.action in {"committed", "failed"} and self.save is not None:
            answered = {"saves_answered": self.save}
            self.connection.execute(update(jobs).where(jobs.c.id == self.attempt.job_id).values(**answered))
            self.save = None
        self._tell(event, event.message or f"Checkpoint of step {event.step} {event.action}.")

    def _compare(self, event: CheckpointEvent, there: list[int]) -> None:
        """Lists what is there: a life that was killed may not have told what it deleted last, or committed."""
        listed = select(checkpoints.c.step).where(checkpoints.c.job_id == self.attempt.job_id)
        known = set(self.connection.execute(listed).scalars())
        for step in known.difference(there):
            gone = checkpoints.c.job_id == self.attempt.job_id, checkpoints.c.step == step
            self.connection.execute(delete(checkpoints).where(*gone))
        if event.step not in known:
            self._keep(event)

    def _keep(self, event: CheckpointEvent, seconds: float | None = None) -> None:
        key = {"job_id": self.attempt.job_id, "step": event.step}
        values = {"attempt": self.attempt.number, "committed_at": event.time, "seconds": seconds}
        put(self.connection, checkpoints, key, values | event.model_dump(include={"path", "size_bytes"}))

    def _rewind(self, event: RewindEvent) -> None:
        """What this attempt said of later steps holds no longer."""
        self.step_rows = {step: row for step, row in self.step_rows.items() if step <= event.step}
        for table in (steps, evals):
            mine = [table.c[name] == value for name, value in self.key.items()]
            self.connection.execute(delete(table).where(*mine, table.c.step > event.step))
        self.progress["step"] = self.life["last_step"] = event.step
        self._tell(event, event.message)

    def _goodput(self, event: GoodputEvent) -> None:
        if self.report.process == 0:
            self.life["goodput"] = _plain(event)
            # Steps between two logged ones are the attempt's, too: a restart may have to take them again.
            if self._has_trained and event.step > (self.life.get("last_step", self.attempt.last_step) or 0):
                self.life["last_step"] = event.step

    def _notice(self, event: NoticeEvent) -> None:
        of_job = progress.c.job_id == self.attempt.job_id
        stored = self.connection.execute(select(progress.c.notices).where(of_job)).scalar_one_or_none()
        notices = dict(self.progress.get("notices", stored) or {})
        notices.pop(event.notice.code, None)
        if event.holds:
            notices[event.notice.code] = event.notice.model_dump(mode="json")
        self.progress["notices"] = notices
        self._tell(event, event.notice.message if event.holds else f"No longer: {event.notice.message}")

    def _finished(self, event: FinishedEvent) -> None:
        # The first process speaks for the run; another's last words count only while nobody else's do.
        if self.report.process == 0 or self.attempt.reported_cause is None:
            self.life |= {"reported_cause": event.cause, "reported_message": sentence(event.message)}
        self._tell(event, event.message)

    def _move(self, state: JobState, code: str, reason: str) -> None:
        # A report that arrives after the end was seen tells of the past.
        if self.attempt.ended_at is None:
            life.move(self.connection, self.attempt.job_id, state, code, reason, self.now)
            self.state, self.code = state, code

    def _tell(self, event: AnyEvent, message: str) -> None:
        data = {name: value for name, value in _plain(event).items() if name not in {"kind", "time", "message"}}
        job_id, number = self.attempt.job_id, self.attempt.number
        add_event(self.connection, job_id, event.time, number, event.kind, sentence(message), data)


def _plain(event: AnyEvent) -> dict[str, Any]:
    """The event as JSON has it: a value that is no number becomes null."""
    try:
        plain: dict[str, Any] = json.loads(event.model_dump_json())
    except PydanticSerializationError as error:
        raise Unstorable(f"a value cannot be stored: {error}") from error
    return plain
