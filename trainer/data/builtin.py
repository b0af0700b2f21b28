"""The demo corpus: the Python standard library's own source, and the language reference that pydoc carries.

It is on every machine that can run the trainer, so nothing is downloaded. The same Python version gives the same
corpus.
"""

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from trainer.errors import UserError
from vishwamai.contract.config import BUILTIN_CORPUS

MAX_BYTES = 6_000_000
"""Enough that a demo never sees the same text twice, little enough to be tokenized in a moment."""

_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
_TABLES = {"encodings", "pydoc_data"}
_PREFIX_OF_BUILD_FILES = "_sysconfigdata"


def documents(library: Path | None = None) -> Iterator[str]:
    """Reference topics first, then the source files in order of their paths: those that a hash picks up to MAX_BYTES.

    Args:
      library: folder of the standard library; absent: this interpreter's.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    topics = _reference()
    files = _chosen(library, MAX_BYTES - sum(len(topic.encode()) for topic in topics))
    if not files:
        raise UserError(
            f"data.train: {BUILTIN_CORPUS!r} reads the standard library's source, but {str(library)!r} holds none: "
            "name files of your own"
        )
    yield from topics
    for file in files:
        yield file.read_text(encoding="utf-8", errors="replace")


def _reference() -> list[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions ship it apart
        return []
    return [topics[name] for name in sorted(topics)]


def _chosen(library: Path, most: int) -> list[Path]:
    """Source files of at most `most` bytes together, drawn in the order of a hash: a sample of the whole library."""
    files = [path for path in sorted(library.rglob("*.py")) if _wanted(path.relative_to(library))]
    chosen = []
    for path in sorted(files, key=lambda path: hashlib.sha256(path.relative_to(library).as_posix().encode()).digest()):
        most -= path.stat().st_size
        if most < 0:
            break
        chosen.append(path)
    return sorted(chosen)


def _wanted(path: Path) -> bool:
    folders = set(path.parts[:-1])
    return not (folders & (_LEFT_OUT | _TABLES)) and not path.name.startswith(_PREFIX_OF_BUILD_FILES)
