"""What a checkpoint's folder held when it was committed, so that damage is noticed before it is trained on.

`manifest.json` lies inside the folder and is written before Orbax commits it: a committed checkpoint has one.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NAME = "manifest.json"
_CHANGED_BY_THE_COMMIT = {NAME, "_CHECKPOINT_METADATA", "commit_success.txt"}
_READERS = 8


class DamagedCheckpoint(Exception):
    """A file is not as it was written; the message says which."""


def write(folder: Path) -> None:
    """Records the size and hash of every file under folder, but for those that the commit itself still writes."""
    files = _files(folder)
    hashes = _hash_all([folder / name for name in files])
    entries = {name: [(folder / name).stat().st_size, hashed] for name, hashed in zip(files, hashes, strict=True)}
    (folder / NAME).write_text(json.dumps({"version": 1, "files": entries}, indent=1))


def verify(folder: Path) -> None:
    """Raises DamagedCheckpoint when a file is missing, of another size, changed, or unreadable."""
    try:
        expected = _read(folder)
        for name, (size, _) in expected.items():
            found = (folder / name).stat().st_size
            if found != size:
                raise DamagedCheckpoint(f"{name} has {found} bytes instead of {size}")
        hashes = _hash_all([folder / name for name in expected])
    except PermissionError:
        raise
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{Path(error.filename).relative_to(folder)} is missing") from error
    except OSError as error:
        raise DamagedCheckpoint(f"{error.filename} cannot be read: {error.strerror}") from error
    for (name, (_, wanted)), hashed in zip(expected.items(), hashes, strict=True):
        if hashed != wanted:
            raise DamagedCheckpoint(f"the content of {name} has changed")


def size_bytes(folder: Path) -> int:
    """Bytes of all files under folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _read(folder: Path) -> dict[str, tuple[int, str]]:
    try:
        # Orbax reads this one too, and rewrites it while committing, so that no hash of it can be known before.
        json.loads((folder / "_CHECKPOINT_METADATA").read_bytes())
        content = json.loads((folder / NAME).read_bytes())
        return {name: (int(size), str(hashed)) for name, (size, hashed) in content["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"its {NAME} or _CHECKPOINT_METADATA is not what was written ({error})") from error


def _files(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name not in _CHANGED_BY_THE_COMMIT)


def _hash_all(paths: list[Path]) -> list[str]:
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(_hash, paths))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
