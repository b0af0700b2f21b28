"""The folder of checkpoints: one folder per committed step, named by its number, and what must never be taken for one.

<directory>/100                          committed at step 100
<directory>/200.orbax-checkpoint-tmp     being written, or left half-written by a killed run
<directory>/300.corrupt                  found damaged, kept for a look
<directory>/400.superseded               of a course that the run left by starting again from an earlier step
<directory>/500.deleting                 on its way out
<directory>/in_use_by                    the lock of the trainer at work

On an object store a save writes under the final name at once, and a deletion begins with the commit marker: a folder
without one is a leftover of either.
"""

import errno
import re
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal

from etils import epath

from trainer.checkpoints import places
from trainer.checkpoints.manifest import COMMITTED
from trainer.errors import StorageError, UserError

ASIDE_KEPT = 2
"""Newest folders of each kind, corrupt and superseded, that are kept for a look."""
_LEFTOVER = re.compile(r"\d+\.(orbax-checkpoint-tmp.*|deleting)")
_ASIDE = re.compile(r"(?P<step>\d+)\.(?P<why>corrupt|superseded)(\.\d+)?")
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def prepare(directory: epath.Path) -> None:
    """Makes the folder and proves that it can be written to.

    Raises:
      UserError: the path cannot be a folder of ours.
      StorageError: the disk is full or broken, or the object store does not answer.
    """
    if places.is_address(directory):
        _prepare_address(directory)
        return
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"checkpoints can be written here")
    except OSError as error:
        message = f"checkpoints cannot be written to {str(directory)!r} ({error.strerror})"
        if error.errno in _DISK_FAULTS:
            raise StorageError(f"{message}: free some space, or set checkpoint.directory to another disk") from error
        raise UserError(f"{message}: make it writable, or set checkpoint.directory to another folder") from error


def _prepare_address(directory: epath.Path) -> None:
    probe = directory / f"can_be_written.{uuid.uuid4().hex}"  # every process of a run tries
    try:
        probe.write_text("checkpoints can be written here")
        probe.unlink()
    except Exception as error:  # gcsfs has its own, and lets through those of aiohttp and google-auth
        message = f"checkpoints cannot be written to {str(directory)!r} ({type(error).__name__}: {error})"
        if isinstance(error, (FileNotFoundError, PermissionError)) or "credentials" in str(error).lower():
            raise UserError(
                f"{message}: name a bucket that is there and may be written to with this machine's credentials"
            ) from error
        raise StorageError(message) from error


def check_space(directory: epath.Path, needed: int) -> None:
    """Raises OSError when `needed` bytes do not fit: a disk that fills up halfway makes a failure of many words."""
    free = places.free_bytes(directory)
    if free is not None and free < needed:
        raise OSError(errno.ENOSPC, f"No space left for its {needed:,} bytes", str(directory))


def committed_steps(directory: epath.Path) -> list[int]:
    """Steps of the committed checkpoints, ascending."""
    found = (path.parent.name for path in directory.glob(f"*/{COMMITTED}"))
    return sorted(int(name) for name in found if _is_step(name))


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal() and name == str(int(name))


def uncommitted_steps(directory: epath.Path) -> list[int]:
    """Steps whose folder has its final name, yet no commit marker, ascending."""
    steps = {int(name) for name in _names(directory) if _is_step(name) and (directory / name).is_dir()}
    return sorted(steps - set(committed_steps(directory)))


def clean(directory: epath.Path) -> None:
    """Removes what killed runs left half-written or half-deleted. Nothing may be saving into the folder."""
    leftovers = [name for name in _names(directory) if _LEFTOVER.fullmatch(name)]
    if places.is_address(directory):
        leftovers += map(str, uncommitted_steps(directory))
    for name in leftovers:
        with suppress(OSError):
            places.remove(directory / name)


def delete(path: epath.Path) -> None:
    """Removes a checkpoint so that, killed midway, no half of it is taken for a whole one."""
    if places.is_address(path):
        (path / COMMITTED).unlink()
        places.remove(path)
        return
    leaving = path.parent / f"{path.name}.deleting"
    places.rename(path, leaving)
    places.remove(leaving)


def set_aside(path: epath.Path, why: Literal["corrupt", "superseded"]) -> epath.Path:
    """Renames a checkpoint so that its step is free again; gives its new path."""
    number = 1
    while (aside := path.parent / (f"{path.name}.{why}" + (f".{number}" if number > 1 else ""))).exists():
        number += 1
    places.rename(path, aside)
    return aside


def long_aside(directory: epath.Path) -> list[epath.Path]:
    """Folders set aside that are beyond the newest ASIDE_KEPT of their kind, oldest first."""
    aged: dict[str, list[tuple[float, str]]] = {"corrupt": [], "superseded": []}
    for name in _names(directory):
        if kind := _ASIDE.fullmatch(name):
            # A rename changes the time of a folder's inode, not of its content. An object store knows neither.
            age = int(kind["step"]) if places.is_address(directory) else Path(directory / name).stat().st_ctime
            aged[kind["why"]].append((age, name))
    return [directory / name for kind in aged.values() for _, name in sorted(kind)[:-ASIDE_KEPT]]


def _names(directory: epath.Path) -> list[str]:
    return [path.name for path in directory.iterdir()] if directory.exists() else []
