"""What reconcile needs of a launcher. Names are deterministic, so every call may be repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.records import Observation
from vishwamai.contract.export import ExportAnswer, ExportRequest, ExportType
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest
from vishwamai.contract.plan import Plan
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

    async def generate(self, job_id: str, request: GenerateRequest) -> GenerateAnswer:
        """Texts from the job's committed checkpoint of `request.step`.

        Raises Busy, GenerationRefused, GenerationFailed, and CannotGenerate where this place has no way to do it.
        """

    async def export(self, job_id: str, step: int, request: ExportRequest) -> ExportAnswer:
        """The committed checkpoint of `step` as a Hugging Face folder.

        Raises Busy, ExportRefused, ExportFailed, and CannotGenerate where this place has no way to do it.
        """

    async def exported(self, job_id: str, step: int, dtype: ExportType, name: str) -> Path:
        """A file of an export that is done. Raises NoExport."""

    async def plan(self, config: bytes, on: str | None, teachers: Mapping[str, str]) -> Plan:
        """What a config needs and costs on its own slice, or on another; `teachers` are folders by name.

        Raises Busy, PlanRefused, PlanFailed, and CannotGenerate where this place has no way to do it.
        """

    def output(self, job_id: str) -> str:
        """Folder or address where the job's files are."""

    async def close(self) -> None:
        """Lets go of our own resources; attempts live on."""


class LaunchError(Exception):
    """The place refused; the message says why, for the job's owner."""


class Busy(Exception):
    """As many of these are under way as may be; a later call may be taken."""


class CannotGenerate(Exception):
    """This launcher neither generates, exports nor plans; the message says what does."""


class GenerationRefused(Exception):
    """The request, or what the job left, does not allow it; the message says why."""


class GenerationFailed(Exception):
    """The generating process is at fault, or its machine."""


class ExportRefused(Exception):
    """What the job left cannot be exported; the message says why."""


class ExportFailed(Exception):
    """The exporting process is at fault, or its machine."""


class PlanRefused(Exception):
    """The config, the slice, or what is installed does not allow it; the message says why."""


class PlanFailed(Exception):
    """The planning process is at fault, or its machine."""


class NoExport(Exception):
    """Nothing of that name was exported; the message says what is there."""


__all__ = [
    "Busy",
    "CannotGenerate",
    "ExportFailed",
    "ExportRefused",
    "GenerationFailed",
    "GenerationRefused",
    "Launch",
    "LaunchError",
    "Launcher",
    "NoExport",
    "Observation",
    "PlanFailed",
    "PlanRefused",
]
