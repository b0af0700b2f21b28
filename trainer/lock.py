"""One trainer to a folder: a lock of the operating system, which ends with the process that holds it.

A record lock (fcntl.lockf) and not flock: it is not inherited by a process forked to read data, so that no orphan of a
killed trainer keeps its successor out, and network file systems know it.
"""

import errno
import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from trainer.errors import UserError

NAME = "in_use_by"
PATIENCE = 5.0
"""Seconds that a trainer on its way out is waited for."""
_HELD = {errno.EACCES, errno.EAGAIN}


class FolderLock:
    """Holds `folder`, which exists, for this process until `release`, or its death.

    Raises:
      UserError: another process holds it, and did for all of PATIENCE.
      OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._file = self._path.open("a+b", buffering=0)
        try:
            self._wait()
            self._sign()
        except BaseException:
            self._file.close()
            raise

    def release(self) -> None:
        """Lets others in."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._try():
            if time.monotonic() >= deadline:
                raise UserError(
                    f"another trainer is at work in {str(self._path.parent)!r}{self._holder()}: wait until it has "
                    "ended, end it, or choose another folder (--output, checkpoint.directory or distillation.cache)"
                )
            time.sleep(0.1)

    def _try(self) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in _HELD  # True: a file system without locks
        try:
            if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                return True
        except FileNotFoundError:
            pass
        # The one before removed its file as it left: whoever comes next will not see this one.
        self._file.close()
        self._file = self._path.open("a+b", buffering=0)
        return False

    def _sign(self) -> None:
        """Says who holds it, for the message to those who come later."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._file.truncate(0)
        self._file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}).encode())

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            found = json.loads(self._file.read())
            return f" (process {found['process']} on {found['host']}, since {found['since']})"
        except (ValueError, KeyError, TypeError):  # it is signing just now
            return ""
