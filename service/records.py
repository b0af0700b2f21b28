"""Job records as values: what storage loads, reconcile decides on, and operations answer from."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from vishwamai.contract.problems import Notice
from vishwamai.contract.reports import GoodputEvent
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import Cause, JobState

Stop = Literal["save", "now"]
"""How a user wants a job stopped: after a checkpoint, or at once."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One life of the job's process group, as far as we know it."""

    number: int
    started_at: datetime
    ended_at: datetime | None = None
    first_step: int | None = None
    last_step: int | None = None
    resumed_from: int | None = None
    exit_codes: dict[int, int] = field(default_factory=dict)
    """By process index."""
    reported_cause: Cause | None = None
    """From the trainer's own `finished` report; outlives the processes."""
    reported_message: str | None = None
    cause: Cause | None = None
    message: str | None = None
    goodput: GoodputEvent | None = None
    """The newest account of its time."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job."""

    id: str
    name: str
    state: JobState
    code: str
    reason: str
    created_at: datetime
    updated_at: datetime
    resolved: ResolvedJob
    attempts: tuple[AttemptRecord, ...] = ()
    """Oldest first."""
    stop: Stop | None = None
    """Set when a user asked to cancel; cleared by a retry."""
    stop_requested_at: datetime | None = None
    retried_at_attempt: int = 0
    """Number of attempts there were when the user last retried; restarts are counted from there."""
    restore_step: int | None = None
    """Checkpoint chosen by a retry for the attempt numbered retried_at_attempt + 1; None: the newest."""
    ended_at: datetime | None = None
    """When it came into a terminal state."""
    saves_asked: int = 0
    """Requests for a checkpoint so far."""
    saves_answered: int = 0
    """Number of the newest request that a checkpoint, or a save that failed, has answered."""

    @property
    def attempt(self) -> AttemptRecord | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None


@dataclass(frozen=True, slots=True)
class ProgressRecord:
    """How far a job has come, from the newest report about each thing."""

    step: int = 0
    phase: str | None = None
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    step_seconds: float | None = None
    reported_at: datetime | None = None
    effective: dict[str, Any] = field(default_factory=dict)
    """What the trainer says really ran."""
    sample: str | None = None
    """Text the model wrote last."""
    notices: dict[str, Notice] = field(default_factory=dict)
    """What the newest attempt's trainer warns of, by code."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a launcher sees of one attempt."""

    job_id: str
    attempt: int
    phase: Literal["absent", "pending", "running", "exited"]
    """absent: never launched or gone without a trace; pending: asked for, no process yet."""
    exit_codes: dict[int, int] = field(default_factory=dict)
    """Exit codes by process index once exited; negative for a signal. May be empty when nobody saw the end."""
    ended_at: datetime | None = None
    last_lines: tuple[str, ...] = ()
    """Last lines the processes printed, captured before they are lost."""
    message: str = ""
    """Why it is pending or gone, in one sentence, when the launcher knows."""
