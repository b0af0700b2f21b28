"""Attempts as processes of this machine, which outlive the service and are found again by it.

    DATA_DIR/jobs/ID/                  the job's output folder: checkpoints, metrics.jsonl, ...
    DATA_DIR/jobs/ID/reports.token     the credential for its reports
    DATA_DIR/jobs/ID/started_in        the folder that all its attempts run in, from which its relative paths are taken
    DATA_DIR/jobs/ID/exports/          checkpoints as Hugging Face folders, STEP-DTYPE
    DATA_DIR/jobs/ID/attempts/N/       resolved.json and what the supervisor keeps: process.json, output.log, exit.json
    DATA_DIR/compiled/                 programs that JAX compiled, for all jobs

Trainers open no port here: what they know they report, and this machine's neighbours are not to read it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import psutil
import structlog
from anyio.to_thread import run_sync as in_thread
from pydantic import ValidationError

from service.launchers.base import ExportRefused, GenerationRefused, Launch, LaunchError
from service.launchers.commands import Place
from service.launchers.export import Exports, exported_file
from service.launchers.files import read_json, tail, write_whole
from service.launchers.generation import Generations
from service.launchers.plan import Plans
from service.launchers.processes import birth, group_members, send
from service.launchers.supervisor import EXIT, OUTPUT, PROCESS, record_exit, take_lock
from service.records import Observation
from vishwamai.contract.environment import ATTEMPT, COMPILE_CACHE, COMPILED, JOB_ID, TrainerEnvironment
from vishwamai.contract.environment import OUTPUT as OUTPUT_FOLDER
from vishwamai.contract.export import ExportAnswer, ExportRequest, ExportType
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest
from vishwamai.contract.plan import Plan
from vishwamai.contract.reports import UNDELIVERED, Report

log = structlog.get_logger()

LAST_LINES = 20
START_PATIENCE = 30.0
"""Seconds for a supervisor to come to life."""

_INHERITED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"}
    | {"PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE"}
)
_INHERITED_FAMILIES = ("LC_", "JAX_", "XLA_", "TPU_", "OMP_")


class LocalLauncher:
    """Runs each attempt under a supervisor of its own (service/launchers/supervisor.py).

    `base_url` is where the trainers of this machine reach the service. They inherit what they need of `environ` (PATH,
    HOME, locale, JAX's own settings), never the service's secrets. A job's first attempt runs in the folder that the
    service was started in; so do its later ones, wherever the service may have been started since.
    """

    name = "local"

    def __init__(
        self,
        data_dir: Path,
        base_url: str,
        *,
        python: str = sys.executable,
        command: tuple[str, ...] = ("-P", "-m", "trainer", "train"),
        generate: tuple[str, ...] = ("-P", "-m", "trainer", "generate"),
        export: tuple[str, ...] = ("-P", "-m", "trainer", "export"),
        plan: tuple[str, ...] = ("-P", "-m", "trainer", "plan"),
        max_generations: int = 1,
        generation_seconds: float = 300.0,
        export_seconds: float = 3600.0,
        plan_seconds: float = 1800.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._jobs = data_dir.absolute() / "jobs"
        self._base_url = base_url.rstrip("/")
        self._started_in = Path.cwd()
        self._python = python
        self._command = command
        self._environ = environ
        self._generations = Generations((python, *generate), at_once=max_generations, seconds=generation_seconds)
        self._exports = Exports((python, *export), seconds=export_seconds)
        self._plans = Plans((python, *plan), seconds=plan_seconds)
        # A restart, and the next job of the same shape, need not compile anew what this machine has compiled before.
        self._compiled = data_dir.absolute() / COMPILED

    async def launch(self, launch: Launch) -> None:
        """Starts the attempt unless it was started before. Raises LaunchError when this machine cannot."""
        await in_thread(self._launch, launch)

    async def observe(self, job_id: str, attempt: int) -> Observation:
        """What the attempt's files and this machine's processes say."""
        return await in_thread(self._observe, job_id, attempt)

    async def undelivered(self, job_id: str, attempt: int) -> list[Report]:
        """What the trainer put into the job's folder when the service did not answer."""
        return await in_thread(self._undelivered, job_id, attempt)

    async def terminate(self, job_id: str, attempt: int, *, kill: bool) -> None:
        """SIGTERM, once however often it is asked for, or SIGKILL. An attempt not started yet never will be."""
        await in_thread(self._terminate, job_id, attempt, kill)

    async def generate(self, job_id: str, request: GenerateRequest) -> GenerateAnswer:
        """Texts from a committed checkpoint, made by a process of this machine that only reads the job's folder."""
        return await self._generations.run(await in_thread(self._place, job_id, GenerationRefused), request)

    async def export(self, job_id: str, step: int, request: ExportRequest) -> ExportAnswer:
        """A folder of the job's folder, made by a process of this machine."""
        return await self._exports.run(await in_thread(self._place, job_id, ExportRefused), step, request)

    async def exported(self, job_id: str, step: int, dtype: ExportType, name: str) -> Path:
        """Where the file is."""
        return await in_thread(exported_file, self._jobs / job_id, step, dtype, name)

    async def plan(self, config: bytes, on: str | None, teachers: Mapping[str, str]) -> Plan:
        """Compiled by a process of this machine, which needs no TPU."""
        return await self._plans.run(self._started_in, self._inherited(), config, on, teachers)

    def output(self, job_id: str) -> str:
        """The job's folder."""
        return str(self._jobs / job_id)

    async def close(self) -> None:
        """Nothing is held: the processes are nobody's children."""

    def _place(self, job_id: str, refused: type[Exception]) -> Place:
        try:
            environment = self._inherited() | {COMPILE_CACHE: str(self._compiled)}
            return Place(self._jobs / job_id, self._directory(job_id), environment)
        except (OSError, LaunchError) as error:
            raise refused(f"The job's folder cannot be used: {error}") from error

    def _folder(self, job_id: str, attempt: int) -> Path:
        return self._jobs / job_id / "attempts" / str(attempt)

    def _launch(self, launch: Launch) -> None:
        folder = self._folder(launch.job_id, launch.attempt)
        environment = self._environment(launch.job_id, launch.attempt)
        if (folder / PROCESS).exists():
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._token_file(launch.job_id), launch.reports_token, mode=0o600)
            write_whole(environment.resolved, launch.resolved.model_dump_json(indent=2))
            directory = self._directory(launch.job_id)
        except OSError as error:
            raise LaunchError(f"The job's folder cannot be written: {error}.") from error
        # -P: what lies in that folder is data, and may be called service.py or trainer.py.
        module = ["-P", "-m", "service.launchers.supervisor"]
        started = subprocess.run(
            [self._python, *module, str(folder), self._python, *self._command],
            cwd=directory,
            env=self._inherited() | environment.write(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=START_PATIENCE,
            start_new_session=True,
            check=False,
        )
        if started.returncode != 0:
            last = (started.stderr.strip().splitlines() or [f"exit code {started.returncode}"])[-1]
            raise LaunchError(f"The trainer's supervisor could not start: {last}.")

    def _directory(self, job_id: str) -> Path:
        """The folder that the job's attempts run in, recorded when the first one starts."""
        record = self._jobs / job_id / "started_in"
        if not record.exists():
            write_whole(record, str(self._started_in))
        directory = Path(record.read_text(encoding="utf-8"))
        if not directory.is_dir():
            raise LaunchError(f"The folder {str(directory)!r}, which the job was started in, is gone.")
        return directory

    def _environment(self, job_id: str, attempt: int) -> TrainerEnvironment:
        return TrainerEnvironment(
            resolved=self._folder(job_id, attempt) / "resolved.json",
            output=self._jobs / job_id,
            job_id=job_id,
            attempt=attempt,
            reports_url=f"{self._base_url}/jobs/{job_id}/reports",
            reports_token_file=self._token_file(job_id),
            metrics_port=0,  # any free one; the trainer logs which
            compile_cache=self._compiled,
        )

    def _inherited(self) -> dict[str, str]:
        kept = {k: v for k, v in self._environ.items() if k in _INHERITED or k.startswith(_INHERITED_FAMILIES)}
        return kept | {"PYTHONUNBUFFERED": "1"}

    def _token_file(self, job_id: str) -> Path:
        return self._jobs / job_id / "reports.token"

    def _observe(self, job_id: str, attempt: int) -> Observation:
        folder = self._folder(job_id, attempt)
        if (ended := self._exited(job_id, attempt)) is not None:
            return ended
        process = read_json(folder / PROCESS)
        if process is None:
            return Observation(job_id, attempt, "absent")
        if birth(process["pid"]) == process["birth"]:
            return Observation(job_id, attempt, "running")
        if self._members(job_id, attempt, process["pid"]):
            message = "Its supervisor was killed; the trainer goes on, but its exit code will not be known."
            return Observation(job_id, attempt, "running", message=message)
        # The supervisor may have written its last file since we first looked.
        ended = self._exited(job_id, attempt)
        return ended or Observation(job_id, attempt, "exited", last_lines=self._last_lines(folder))

    def _exited(self, job_id: str, attempt: int) -> Observation | None:
        folder = self._folder(job_id, attempt)
        end = read_json(folder / EXIT)
        if end is None:
            return None
        ended_at = datetime.fromisoformat(end["ended_at"])
        codes, lines = {0: int(end["code"])}, self._last_lines(folder)
        return Observation(job_id, attempt, "exited", exit_codes=codes, ended_at=ended_at, last_lines=lines)

    def _last_lines(self, folder: Path) -> tuple[str, ...]:
        return tail(folder / OUTPUT, lines=LAST_LINES)

    def _undelivered(self, job_id: str, attempt: int) -> list[Report]:
        reports = []
        for path in sorted((self._jobs / job_id / UNDELIVERED).glob(f"attempt-{attempt:06}-*.json")):
            try:
                reports.append(Report.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                log.warning("report.unreadable", path=str(path), error=str(error))
        return reports

    def _members(self, job_id: str, attempt: int, group: int) -> list[int]:
        marks = {JOB_ID: job_id, ATTEMPT: str(attempt), OUTPUT_FOLDER: str(self._jobs / job_id)}
        return group_members(group, marks)

    def _terminate(self, job_id: str, attempt: int, kill: bool) -> None:
        folder = self._folder(job_id, attempt)
        if (folder / EXIT).exists():
            return
        process = read_json(folder / PROCESS)
        if process is None:
            self._forestall(folder)
            return
        supervisor = process["pid"]
        supervised = birth(supervisor) == process["birth"]
        members = [pid for pid in self._members(job_id, attempt, supervisor) if pid != supervisor]
        if kill and members:
            for pid in members:
                send(pid, signal.SIGKILL)
        elif kill or self._first_request(folder):
            for pid in [supervisor] if supervised else _eldest(members):
                send(pid, signal.SIGTERM)

    def _first_request(self, folder: Path) -> bool:
        """Whether nobody asked the attempt to end before: a trainer asked twice ends without saving."""
        try:
            (folder / "asked_to_end").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _forestall(self, folder: Path) -> None:
        """Ends an attempt that has not started, so that a launch still on its way finds it over."""
        folder.mkdir(parents=True, exist_ok=True)
        lock = take_lock(folder)
        if lock is None:
            return
        try:
            if not (folder / PROCESS).exists():
                record_exit(folder, -signal.SIGTERM)
        finally:
            os.close(lock)


def _eldest(pids: list[int]) -> list[int]:
    """Those whose parent is not among them."""
    parents = {}
    for pid in pids:
        try:
            parents[pid] = psutil.Process(pid).ppid()
        except psutil.NoSuchProcess:
            continue
    return [pid for pid, parent in parents.items() if parent not in pids]
