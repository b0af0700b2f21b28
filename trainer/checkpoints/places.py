"""Where checkpoints may be: a folder, or an address of Google Cloud Storage (gs://bucket/path).

An object store has neither folders nor renames. What has objects below its name is a folder here; a rename copies each
of them within the store and is not atomic, so that nothing may depend on it: the commit marker alone decides.
"""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath

from trainer.errors import UserError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*):/")
_GCS = "gcs"


@dataclass(frozen=True, slots=True)
class File:
    """What is known of a file without opening it."""

    size: int
    checksum: str | None
    """CRC-32C in base64, of objects; None of files."""


def place_of(location: str | os.PathLike[str]) -> epath.Path:
    """The folder or address that checkpoint.directory names.

    Raises:
      UserError: an address that checkpoints cannot be written to.
    """
    text = os.fspath(location)
    scheme = _ADDRESS.match(text)
    if scheme is None:
        return epath.Path(Path(text).absolute())
    if scheme[1] != "gs":
        raise UserError(
            f"checkpoint.directory {text!r}: checkpoints go to folders and to gs:// addresses, and Orbax writes to no "
            f"{scheme[1]}:// (it would take it for a file's relative path); mount it, or name another place"
        )
    import fsspec  # brings much, for addresses alone

    # Objects are written by TensorStore as well, of which fsspec would not know: a listing that it kept would be stale.
    fsspec.config.conf.setdefault(_GCS, {})["use_listings_cache"] = False
    return epath.Path(re.sub(r"^gs:/+", "gs://", text))  # pathlib makes one slash of two


def is_address(place: epath.Path) -> bool:
    """True for an object store."""
    return str(place).startswith("gs://")


def files(folder: epath.Path) -> dict[str, File]:
    """Every file under the folder, by its relative name."""
    if is_address(folder):
        found = _store().find(str(folder), detail=True)
        begin = len(str(folder).removeprefix("gs://").rstrip("/")) + 1
        return {name[begin:]: File(info["size"], info.get("crc32c")) for name, info in found.items()}
    root = Path(folder)
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): File(path.stat().st_size, None) for path in paths}


def rename(folder: epath.Path, to: epath.Path) -> None:
    """Gives a folder another name; on an object store, by copies within it. Killed midway, it may be done again."""
    if is_address(folder):
        _store().copy(str(folder), str(to), recursive=True)
        remove(folder)
    else:
        Path(folder).rename(Path(to))


def remove(folder: epath.Path) -> None:
    """Removes a folder and what is in it; no error when it is gone."""
    if is_address(folder):
        if _store().exists(str(folder)):
            _store().rm(str(folder), recursive=True)
    else:
        shutil.rmtree(folder)


def free_bytes(place: epath.Path) -> int | None:
    """Free space; None where it has no bound, or is not known."""
    if is_address(place):
        return None
    disk = shutil.disk_usage(place)
    return disk.free if disk.total else None  # some network folders say 0 of 0


def _store() -> Any:
    import fsspec

    # As etils.epath asks for it: the same instance, and so the same connections and credentials.
    return fsspec.filesystem(_GCS, finalize_on_close=True)
