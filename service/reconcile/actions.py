"""What `decide` asks for. Each action may be applied twice: the second time changes nothing."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from vishwamai.contract.states import Cause, JobState

Restore = Literal["newest", "never"] | int


@dataclass(frozen=True, slots=True)
class BeginAttempt:
    """Record that attempt `number` is to live, before anything is started."""

    number: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Bring attempt `number` to life."""

    number: int
    restore: Restore
    """The checkpoint it starts from, for its `checkpoint.restore`."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask the attempt's processes to end (SIGTERM), or end them (SIGKILL)."""

    number: int
    kill: bool


@dataclass(frozen=True, slots=True)
class EndAttempt:
    """Record how attempt `number` ended."""

    number: int
    ended_at: datetime
    cause: Cause
    message: str
    exit_codes: dict[int, int] = field(default_factory=dict)
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """Bring the job into a state, or change the reason why it is there."""

    state: JobState
    code: str
    reason: str


Action = BeginAttempt | Launch | Terminate | EndAttempt | Move
