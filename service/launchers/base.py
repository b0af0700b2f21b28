"""What reconcile needs of a launcher. Names are deterministic, so every call may be repeated."""

from dataclasses import dataclass
from typing import Protocol

from service.records import Observation
from vishwamai.contract.reports import Report
from vishwamai.contract.resolved import ResolvedJob


@dataclass(frozen=True, slots=True)
class Launch:
    """One attempt to bring to life."""

    job_id: str
    attempt: int
    resolved: ResolvedJob
    reports_token: str
    """The job's own credential for POST /jobs/{id}/reports."""


class Launcher(Protocol):
    """A place where attempts run."""

    name: str

    async def launch(self, launch: Launch) -> None:
        """Brings the attempt to life unless it already was. Raises LaunchError when the place refuses."""

    async def observe(self, job_id: str, attempt: int) -> Observation:
        """What is there now."""

    async def undelivered(self, job_id: str, attempt: int) -> list[Report]:
        """Reports that the attempt, now over, left behind because it could not deliver them, in order."""

    async def terminate(self, job_id: str, attempt: int, *, kill: bool) -> None:
        """Asks the processes to end (SIGTERM), or ends them (SIGKILL). No error when they are gone."""

    def output(self, job_id: str) -> str:
        """Folder or address where the job's files are."""

    async def close(self) -> None:
        """Lets go of our own resources; attempts live on."""


class LaunchError(Exception):
    """The place refused; the message says why, for the job's owner."""


__all__ = ["Launch", "LaunchError", "Launcher", "Observation"]
