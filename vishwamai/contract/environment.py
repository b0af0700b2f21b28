"""The environment a launcher gives the trainer: the names, and the one place that reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RESOLVED = "VISHWAMAI_RESOLVED"
OUTPUT = "VISHWAMAI_OUTPUT"
JOB_ID = "VISHWAMAI_JOB_ID"
ATTEMPT = "VISHWAMAI_ATTEMPT"
REPORTS_URL = "VISHWAMAI_REPORTS_URL"
REPORTS_TOKEN_FILE = "VISHWAMAI_REPORTS_TOKEN_FILE"
METRICS_PORT = "VISHWAMAI_METRICS_PORT"
COORDINATOR = "VISHWAMAI_COORDINATOR"
PROCESSES = "VISHWAMAI_PROCESSES"
PROCESS = "VISHWAMAI_PROCESS"
RESTARTS = "VISHWAMAI_RESTARTS"
"""Restarts since the attempt that ATTEMPT says; a JobSet counts them in a label."""
SLICE = "VISHWAMAI_SLICE"
HOST = "VISHWAMAI_HOST"
HOSTS_PER_SLICE = "VISHWAMAI_HOSTS_PER_SLICE"
"""Instead of PROCESS, where slice and host within it are known apart: PROCESS = SLICE x HOSTS_PER_SLICE + HOST."""
TEACHERS = "VISHWAMAI_TEACHERS"
"""Where teachers are that configs name: gemma-7b=/models/gemma-7b,..."""


@dataclass(frozen=True, slots=True)
class TrainerEnvironment:
    """Where the trainer finds its job and whom it reports to."""

    resolved: Path
    output: Path
    job_id: str | None = None
    attempt: int = 1
    reports_url: str | None = None
    """Full address of POST /jobs/{id}/reports; None trains without a control plane."""
    reports_token_file: Path | None = None
    metrics_port: int | None = None
    """None serves no metrics; 0 takes any free port."""
    coordinator: str | None = None
    """host:port of process 0, where the processes of one attempt find each other; None when there is only one."""
    processes: int = 1
    process: int = 0
    """Number of this one, from 0."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "TrainerEnvironment":
        """Reads the launcher's variables; raises ValueError naming one that is missing or malformed."""
        for name in (RESOLVED, OUTPUT):
            if not environ.get(name):
                raise ValueError(f"{name} is not set: launchers set it; to train by hand use --config and --output")
        token = environ.get(REPORTS_TOKEN_FILE)
        port = _number(environ, METRICS_PORT)
        processes, process = _number(environ, PROCESSES) or 1, _process(environ)
        if process >= processes:
            raise ValueError(f"{PROCESS} is {process}, and {PROCESSES} is {processes}: they are numbered from 0")
        if processes > 1 and not environ.get(COORDINATOR):
            raise ValueError(f"{COORDINATOR} is not set, and {processes} processes need an address to meet at")
        return cls(
            resolved=Path(environ[RESOLVED]),
            output=Path(environ[OUTPUT]),
            job_id=environ.get(JOB_ID),
            attempt=(_number(environ, ATTEMPT) or 1) + (_number(environ, RESTARTS) or 0),
            reports_url=environ.get(REPORTS_URL),
            reports_token_file=Path(token) if token else None,
            metrics_port=port,
            coordinator=environ.get(COORDINATOR),
            processes=processes,
            process=process,
        )

    def write(self) -> dict[str, str]:
        """The variables that `read` turns back into this value."""
        pairs = {
            RESOLVED: self.resolved,
            OUTPUT: self.output,
            JOB_ID: self.job_id,
            ATTEMPT: self.attempt,
            REPORTS_URL: self.reports_url,
            REPORTS_TOKEN_FILE: self.reports_token_file,
            METRICS_PORT: self.metrics_port,
            COORDINATOR: self.coordinator,
            PROCESSES: self.processes if self.processes > 1 else None,
            PROCESS: self.process if self.processes > 1 else None,
        }
        return {name: str(value) for name, value in pairs.items() if value is not None}


def read_teachers(environ: Mapping[str, str]) -> dict[str, str]:
    """Folders by name, from the variable TEACHERS. Raises ValueError for what is not NAME=FOLDER."""
    found: dict[str, str] = {}
    for entry in filter(None, (environ.get(TEACHERS) or "").split(",")):
        name, equals, folder = (part.strip() for part in entry.partition("="))
        if not (equals and name and folder) or name in found or "/" in name:
            raise ValueError(f"{TEACHERS}: {entry!r} is not NAME=FOLDER, or names one twice; commas separate several")
        found[name] = folder
    return found


def _process(environ: Mapping[str, str]) -> int:
    within_slice = _number(environ, HOST)
    if within_slice is None:
        return _number(environ, PROCESS) or 0
    return (_number(environ, SLICE) or 0) * (_number(environ, HOSTS_PER_SLICE) or 1) + within_slice


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(f"{name}={text!r} is not a whole number")
    return int(text)
