"""Holds one attempt's trainer process: starts it, passes SIGTERM on, and writes down how it ended.

    python -m service.launchers.supervisor FOLDER COMMAND...

It detaches itself, so it outlives the service, and leads a process group of its own that the trainer and all it starts
belong to; what is left of the group when the trainer ends is killed. In FOLDER it keeps `lock` (held while it lives),
`process.json` (who it is; written before the trainer starts), `output.log` (what the trainer prints) and at the end
`exit.json` {code, ended_at}. An attempt lives once: where one of the two JSON files exists, or another supervisor holds
the lock, a second start does nothing and succeeds.
"""

import fcntl
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from service.launchers.files import write_json
from service.launchers.processes import birth, group_members, send

LOCK, PROCESS, EXIT, OUTPUT = "lock", "process.json", "exit.json", "output.log"


def main(arguments: list[str]) -> int:
    """Returns 0 in the process that was started, once the attempt lives in a detached one or did so before; else 1."""
    folder, command = Path(arguments[0]), arguments[1:]
    lock = take_lock(folder)
    if lock is None or (folder / PROCESS).exists() or (folder / EXIT).exists():
        return 0
    ready, tell = os.pipe()
    if os.fork() != 0:
        os.close(tell)
        return 0 if os.read(ready, 1) else 1
    os.close(ready)
    os.setsid()
    _supervise(folder, command, tell)
    return 0


def take_lock(folder: Path) -> int | None:
    """An open descriptor that holds the attempt's lock until it is closed, or None when someone else holds it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def record_exit(folder: Path, code: int) -> None:
    """Writes down how the attempt ended."""
    write_json(folder / EXIT, {"code": code, "ended_at": datetime.now(UTC).isoformat()})


def _supervise(folder: Path, command: list[str], tell: int) -> None:
    early: list[int] = []
    trainers: list[subprocess.Popen[bytes]] = []

    # Each signal is passed on once: a trainer that gets two ends without saving.
    def pass_on(number: int, frame: FrameType | None) -> None:
        if trainers:
            trainers[0].send_signal(number)
        else:
            early.append(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_json(folder / PROCESS, {"pid": os.getpid(), "birth": birth(os.getpid())})
    with (folder / OUTPUT).open("ab", buffering=0) as output:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.write(tell, b"1")
        os.close(tell)
        if early:
            record_exit(folder, -signal.SIGTERM)
            return
        try:
            trainers.append(subprocess.Popen(command, stdin=nothing, stdout=output, stderr=output))
        except OSError as error:
            output.write(f"cannot start {command[0]}: {error}\n".encode())
            record_exit(folder, 1)
            return
        if early:
            trainers[0].send_signal(signal.SIGTERM)
        code = trainers[0].wait()
        for pid in group_members(os.getpgrp()):
            if pid != os.getpid():
                send(pid, signal.SIGKILL)
        record_exit(folder, code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
