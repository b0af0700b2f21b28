"""Helpers to watch real processes without guessing how long they take."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from service.launchers.base import Launch
from service.launchers.local import LocalLauncher
from service.launchers.processes import birth
from tests.trainer.jobs import tiny_job

FAKE_TRAINER = Path(__file__).with_name("fake_trainer.py")
PATIENCE = 60.0


def launcher_at(data_dir: Path, **options: Any) -> LocalLauncher:
    """The launcher with the fake trainer."""
    return LocalLauncher(data_dir, "http://127.0.0.1:1", command=(str(FAKE_TRAINER),), **options)


def launch(attempt: int = 1, job_id: str = "job-1") -> Launch:
    return Launch(job_id, attempt, tiny_job(), "a-secret-token")


def until[T](look: Callable[[], T | None]) -> T:
    """What `look` returns as soon as it is something."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE:.0f} s in vain")


def read(path: Path) -> str | None:
    """The file's text, once there is one."""
    return path.read_text() if path.exists() else None


def trainer_pid(data_dir: Path, attempt: int = 1, job_id: str = "job-1") -> int:
    """Waits until the attempt's trainer is up."""
    return int(until(lambda: read(data_dir / "jobs" / job_id / f"started-{attempt}")))


def is_gone(pid: int) -> bool:
    return birth(pid) is None


def end_all(data_dir: Path) -> None:
    """Kills what a test started below this folder, by its command line and environment."""
    for process in psutil.process_iter():
        try:
            if str(data_dir) in " ".join(process.cmdline()) or str(data_dir) in process.environ().get(
                "VISHWAMAI_OUTPUT", ""
            ):
                process.kill()
        except psutil.Error:
            continue
