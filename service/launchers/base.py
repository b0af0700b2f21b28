"""What reconcile needs of a launcher. Every call may be repeated: names are deterministic, so repeating changes nothing."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from vishwamai.contract.resolved import ResolvedJob


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt to bring to life."""

    job_id: str
    attempt: int
    resolved: ResolvedJob
    reports_token: str
    """The job's own credential for POST /jobs/{id}/reports."""


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


class Launcher(Protocol):
    """A place where attempts run."""

    name: str

    async def launch(self, launch: Launch) -> None:
        """Brings the attempt to life unless it already was. Raises LaunchError when the place refuses."""

    async def observe(self, job_id: str, attempt: int) -> Observation:
        """What is there now."""

    async def terminate(self, job_id: str, attempt: int, *, kill: bool) -> None:
        """Asks the processes to end (SIGTERM), or ends them (SIGKILL). No error when they are gone."""

    def output(self, job_id: str) -> str:
        """Folder or address where the job's files are."""

    async def close(self) -> None:
        """Lets go of our own resources; attempts live on."""


class LaunchError(Exception):
    """The place refused; the message says why, for the job's owner."""
