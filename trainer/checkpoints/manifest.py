"""What a checkpoint's folder held when it was committed, so that damage is noticed before it is trained on.

`manifest.json` lies inside the folder and is written before Orbax commits it: a committed checkpoint has one. It has
the size and a hash of every other file. In a folder the hash is BLAKE2b of what was read back; of an object store it is
the CRC-32C that the store itself keeps with each object, so that nothing is fetched to be checked.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from etils import epath

from trainer.checkpoints import places

NAME = "manifest.json"
COMMITTED = "commit_success.txt"
"""Orbax writes this file last."""
_REWRITTEN_BY_THE_COMMIT = {NAME, "_CHECKPOINT_METADATA", COMMITTED}
"""Checkpoints of version 1 have Orbax's own metadata, which changes while they are committed; since 2 they have not."""
_READERS = 8


class DamagedCheckpoint(Exception):
    """A file is not as it was written; the message says which."""


def write(folder: epath.Path) -> None:
    """Records every file under `folder`, but for those that the commit still writes; the marker's content is known."""
    found = places.files(folder)
    hashes = _hashes(folder, found, sorted(found.keys() - _REWRITTEN_BY_THE_COMMIT))
    entries = {name: (found[name].size, hashed) for name, hashed in hashes.items()}
    entries |= {COMMITTED: _of_bytes(_commit_text(folder))}
    (folder / NAME).write_bytes(_as_bytes({"version": 2, "files": entries}))


def verify(folder: epath.Path) -> None:
    """Raises DamagedCheckpoint when a file is missing, of another size, changed, or unreadable.

    What else an object store says (that it is away, that access is denied) is no damage, and passes through.
    """
    try:
        expected = _read(folder)
        found = places.files(folder)
        for name, (size, _) in expected.items():
            if name not in found:
                raise DamagedCheckpoint(f"{name} is missing")
            if found[name].size != size:
                raise DamagedCheckpoint(f"{name} has {found[name].size} bytes instead of {size}")
        # A hash of bytes known beforehand is BLAKE2b everywhere.
        stored = [name for name in expected if name != COMMITTED]
        hashes = _hashes(folder, found, stored)
        if COMMITTED in expected:
            hashes |= {COMMITTED: _of_bytes((folder / COMMITTED).read_bytes())[1]}
    except FileNotFoundError as error:
        missing = error.filename or error.args[0]
        raise DamagedCheckpoint(f"{Path(str(missing)).name} is missing") from error
    except OSError as error:
        if isinstance(error, PermissionError) or places.is_address(folder):
            raise
        raise DamagedCheckpoint(f"{error.filename} cannot be read: {error.strerror}") from error
    for name, (_, wanted) in expected.items():
        if hashes[name] != wanted:
            raise DamagedCheckpoint(f"the content of {name} has changed")


def _read(folder: epath.Path) -> dict[str, tuple[int, str]]:
    raw = (folder / NAME).read_bytes()
    try:
        content = json.loads(raw)
        version = content["version"]
        if version == 1:
            # Orbax reads this one too, and rewrites it while committing, so that no hash of it can be known before.
            json.loads((folder / "_CHECKPOINT_METADATA").read_bytes())
        elif version != 2 or raw != _as_bytes(content):
            raise ValueError("other bytes")
        return {str(name): (int(size), str(hashed)) for name, (size, hashed) in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"its {NAME} or _CHECKPOINT_METADATA is not what was written ({error})") from error


def _as_bytes(content: Any) -> bytes:
    """The only form of a manifest: a changed blank in it is noticed, too. Its own hash is its last entry."""
    files = {"version": content["version"], "files": content["files"]}
    return json.dumps(files | {"hash": _of_bytes(json.dumps(files).encode())[1]}, indent=1).encode()


def _commit_text(folder: epath.Path) -> bytes:
    # 100.orbax-checkpoint-tmp becomes 100; on an object store it is 100 already.
    return f"Checkpoint commit was successful to {folder.parent / folder.name.partition('.')[0]}".encode()


def _hashes(folder: epath.Path, found: dict[str, places.File], names: list[str]) -> dict[str, str]:
    if places.is_address(folder):
        return {name: f"crc32c:{found[name].checksum}" for name in names}
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(names, readers.map(lambda name: _hash(Path(folder / name)), names), strict=True))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _of_bytes(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.blake2b(content, digest_size=16).hexdigest()
