"""Processes told apart from later ones that were given the same number."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress

import psutil


def birth(pid: int) -> str | None:
    """What tells this process from any other that ever had its number; None when it is gone or only waits to be reaped.

    On Linux that is the boot and the kernel's own start tick, which setting the clock does not move.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (runs before each start)
            # "pid (name) state ppid ...": the name may hold anything, so count from its last parenthesis.
            fields = file.read().rpartition(")")[2].split()
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:  # noqa: PTH123
            boot = file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None if os.path.isdir("/proc/self") else _birth_elsewhere(pid)  # noqa: PTH112
    return None if fields[0] in {"Z", "X"} else f"{boot}:{fields[19]}"


def _birth_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def group_members(group: int, marks: Mapping[str, str] | None = None) -> list[int]:
    """The living processes of a process group; with `marks`, only those that have these environment variables.

    The number of a group whose leader is gone may come to name another group. What the environment says stays true.
    """
    members = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(pid) == group and birth(pid) is not None and (not marks or _has_marks(pid, marks)):
                members.append(pid)
    return members


def _has_marks(pid: int, marks: Mapping[str, str]) -> bool:
    environ: dict[str, str] = psutil.Process(pid).environ()
    return marks.items() <= environ.items()


def send(pid: int, number: signal.Signals) -> None:
    """Signals a process; one that is gone needs none."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
