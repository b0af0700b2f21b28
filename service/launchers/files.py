"""Small files that are either whole or absent, whatever is killed while they are written."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Writes the file so that it survives a crash of the machine, and nobody ever reads half of it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`write_whole` of a JSON object."""
    write_whole(path, json.dumps(content))


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in the file; None when there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object")
    return content


def tail(path: Path, *, lines: int, at_most: int = 16_384) -> tuple[str, ...]:
    """The file's last lines, read from its last `at_most` bytes; () when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - at_most))
            text = file.read(at_most).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    whole = text.splitlines()
    if size > at_most and len(whole) > 1:
        whole = whole[1:]
    return tuple(whole[-lines:])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
