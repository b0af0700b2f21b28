"""The folder of checkpoints: one folder per committed step, named by its number, and what must never be taken for one.

<directory>/100                          committed at step 100
<directory>/200.orbax-checkpoint-tmp     being written, or left half-written by a killed run
<directory>/300.corrupt                  found damaged, kept for a look
<directory>/400.superseded               of a course that the run left by starting again from an earlier step
<directory>/500.deleting                 on its way out
"""

import errno
import re
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from trainer.errors import StorageError, UserError

COMMITTED = "commit_success.txt"
"""Orbax writes this file last."""
_LEFTOVER = re.compile(r"\d+\.(orbax-checkpoint-tmp.*|deleting)")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def prepare(directory: Path) -> None:
    """Makes the folder and proves that it can be written to.

    Raises:
      UserError: the path cannot be a folder of ours.
      StorageError: the disk is full or broken.
    """
    if _ADDRESS.match(str(directory)):
        raise UserError(
            f"checkpoint.directory {str(directory)!r} is an address, and this release writes to folders: mount it first"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"checkpoints can be written here")
    except OSError as error:
        message = f"checkpoints cannot be written to {str(directory)!r} ({error.strerror})"
        if error.errno in _DISK_FAULTS:
            raise StorageError(f"{message}: free some space, or set checkpoint.directory to another disk") from error
        raise UserError(f"{message}: make it writable, or set checkpoint.directory to another folder") from error


def check_space(directory: Path, needed: int) -> None:
    """Raises OSError when `needed` bytes do not fit: a disk that fills up halfway makes a failure of many words."""
    disk = shutil.disk_usage(directory)
    if disk.total and disk.free < needed:  # some network folders say 0 of 0
        raise OSError(errno.ENOSPC, f"No space left for its {needed:,} bytes", str(directory))


def committed_steps(directory: Path) -> list[int]:
    """Steps of the committed checkpoints, ascending."""
    return sorted(int(path.parent.name) for path in directory.glob(f"*/{COMMITTED}") if _is_step(path.parent.name))


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name == str(int(name))


def uncommitted_steps(directory: Path) -> list[int]:
    """Steps whose folder has its final name, yet no commit marker, ascending."""
    steps = {int(path.name) for path in directory.glob("*") if path.is_dir() and _is_step(path.name)}
    return sorted(steps - set(committed_steps(directory)))


def clean(directory: Path) -> None:
    """Removes what killed runs left half-written or half-deleted. Nothing may be saving into the folder."""
    for path in directory.glob("*"):
        if _LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def delete(path: Path) -> None:
    """Removes a checkpoint so that, killed midway, no half of it is taken for a whole one."""
    leaving = path.with_name(f"{path.name}.deleting")
    path.rename(leaving)
    shutil.rmtree(leaving)


def set_aside(path: Path, why: Literal["corrupt", "superseded"]) -> Path:
    """Renames a checkpoint so that its step is free again; gives its new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}" + (f".{number}" if number > 1 else ""))).exists():
        number += 1
    return path.rename(aside)


def surplus(committed: list[int], keep_last: int, keep_every: int | None) -> list[int]:
    """Steps that retention gives up: all but the newest keep_last and the multiples of keep_every."""
    older = committed[:-keep_last]
    return [step for step in older if keep_every is None or step % keep_every]
