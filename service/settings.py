"""How the service is set up: the only reader of the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from vishwamai.contract.environment import read_teachers


class SettingsError(ValueError):
    """A setting is wrong; the message names the variable, its value and what would be accepted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field comes from the environment variable VISHWAMAI_<FIELD IN CAPITALS>."""

    data_dir: Path = Path("runs")
    """Database, secret and jobs' output."""
    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs tokens_file."""
    port: int = 8000
    """Port to listen on; 0 takes any free one."""
    tokens_file: Path | None = None
    """YAML: who may call, and hashes of their tokens. Without it everyone on this machine may, and nobody else."""
    database_url: str = ""
    """SQLAlchemy's address; empty: an SQLite file in data_dir."""
    launcher: Literal["local"] = "local"
    """Where attempts run: as processes on this machine."""
    max_running_jobs: int = 1
    """Jobs with processes at the same time; the others wait."""
    tick_seconds: float = 0.5
    """Longest pause between two looks of the reconcile loop."""
    max_body_bytes: int = 1 << 20
    """Body of a request; a trainer's report may be larger."""
    max_report_bytes: int = 8 << 20
    """Body of a trainer's report; it may carry a thousand log lines."""
    log_bytes_per_job: int = 64 << 20
    """Compressed log lines kept per job; beyond that the oldest go."""
    steps_per_job: int = 100_000
    """Logged steps kept per job; beyond that every other one goes."""

    max_generations: int = 1
    """Generations of text at the same time; further ones are told to come again."""
    generation_seconds: float = 300.0
    """Longest time that one generation of text may take."""
    export_seconds: float = 3600.0
    """Longest time that the export of a checkpoint may take."""
    plan_seconds: float = 1800.0
    """Longest time that the TPU compiler may take for a plan."""

    cluster_file: Path | None = None
    """JSON or YAML: the Kubernetes cluster for which manifests are rendered; docs/kubernetes.md has its fields."""

    teachers: Mapping[str, str] = field(default_factory=dict)
    """Where teachers are that configs name: gemma-7b=/models/gemma-7b,..."""

    @property
    def database(self) -> str:
        """Address of the database, with the default filled in."""
        return self.database_url or f"sqlite:///{self.database_file}"

    @property
    def database_file(self) -> Path:
        """Where the default database is."""
        return self.data_dir.absolute() / "service.sqlite3"

    @property
    def base_url(self) -> str:
        """Where trainers on this machine reach the service."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def with_port(self, port: int) -> "Settings":
        """The same with the port that was really bound."""
        return replace(self, port=port)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Settings":
        """Reads the environment; raises SettingsError."""
        defaults = cls()
        settings = cls(
            data_dir=Path(environ.get("VISHWAMAI_DATA_DIR") or defaults.data_dir),
            host=environ.get("VISHWAMAI_HOST") or defaults.host,
            port=_whole(environ, "VISHWAMAI_PORT", defaults.port, 0, 65_535),
            tokens_file=Path(file) if (file := environ.get("VISHWAMAI_TOKENS_FILE")) else None,
            database_url=environ.get("VISHWAMAI_DATABASE_URL") or defaults.database_url,
            launcher=_launcher(environ.get("VISHWAMAI_LAUNCHER") or defaults.launcher),
            max_running_jobs=_whole(environ, "VISHWAMAI_MAX_RUNNING_JOBS", defaults.max_running_jobs, 1, 10_000),
            tick_seconds=_seconds(environ, "VISHWAMAI_TICK_SECONDS", defaults.tick_seconds),
            max_body_bytes=_whole(environ, "VISHWAMAI_MAX_BODY_BYTES", defaults.max_body_bytes, 1024, 1 << 30),
            max_report_bytes=_whole(environ, "VISHWAMAI_MAX_REPORT_BYTES", defaults.max_report_bytes, 1024, 1 << 30),
            log_bytes_per_job=_whole(environ, "VISHWAMAI_LOG_BYTES_PER_JOB", defaults.log_bytes_per_job, 0, 1 << 40),
            steps_per_job=_whole(environ, "VISHWAMAI_STEPS_PER_JOB", defaults.steps_per_job, 100, 1 << 30),
            max_generations=_whole(environ, "VISHWAMAI_MAX_GENERATIONS", defaults.max_generations, 1, 1000),
            generation_seconds=_seconds(environ, "VISHWAMAI_GENERATION_SECONDS", defaults.generation_seconds, 86_400),
            plan_seconds=_seconds(environ, "VISHWAMAI_PLAN_SECONDS", defaults.plan_seconds, 86_400),
            export_seconds=_seconds(environ, "VISHWAMAI_EXPORT_SECONDS", defaults.export_seconds, 86_400),
            cluster_file=Path(file) if (file := environ.get("VISHWAMAI_CLUSTER_FILE")) else None,
            teachers=_teachers(environ),
        )
        if not is_loopback(settings.host) and settings.tokens_file is None:
            raise SettingsError(
                f"VISHWAMAI_HOST={settings.host!r} lets other machines in, and nothing says who may call: set "
                "VISHWAMAI_TOKENS_FILE (python -m service token NAME makes a token), or use 127.0.0.1, ::1, localhost"
            )
        return settings


def is_loopback(host: str) -> bool:
    """True for a name or address that only this machine can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _launcher(name: str) -> Literal["local"]:
    if name != "local":
        raise SettingsError(f"VISHWAMAI_LAUNCHER={name!r} is not known; 'local' is")
    return "local"


def _teachers(environ: Mapping[str, str]) -> dict[str, str]:
    try:
        return read_teachers(environ)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _whole(environ: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= most:
        raise SettingsError(f"{name}={text!r} is not a whole number from {least} to {most}")
    return int(text)


def _seconds(environ: Mapping[str, str], name: str, default: float, most: float = 60) -> float:
    text = environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.01 <= seconds <= most:
        raise SettingsError(f"{name}={text!r} is not a number of seconds from 0.01 to {most:g}")
    return seconds
