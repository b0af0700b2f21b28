"""Locations to files, and files to documents, as text.

Files are local or in an object store, in any of the formats of `kinds`. Every error is a UserError that names the field
of the config, the file, and the place inside it; or a StorageError where a disk or a store failed.
"""

import hashlib
import json
from collections.abc import Callable, Iterator

from trainer.data import builtin
from trainer.data.sources import arrow, jsonl, parquet, records, text
from trainer.data.sources.files import SourceFile, expand, traits
from trainer.data.sources.kinds import Format, format_of
from vishwamai.contract.config import BUILTIN_CORPUS, DataSection

__all__ = ["expand", "identity", "read", "split"]

_READERS: dict[Format, Callable[[SourceFile, str], Iterator[str]]] = {
    "text": text.documents,
    "jsonl": jsonl.documents,
    "parquet": parquet.documents,
    "arrow": arrow.documents,
    "array_record": records.documents,
}


def read(files: list[str], data: DataSection, field: str) -> Iterator[str]:
    """The documents of files that `expand` gave, in order, a piece of each file in memory at a time.

    Args:
      files: names as `expand` gives them.
      data: its `format` and `text_field` say how they are read.
      field: the config's name for them, e.g. 'data.train'.
    """
    for name in files:
        if name == BUILTIN_CORPUS:
            yield from builtin.documents()
            continue
        file = SourceFile(name, field)
        with file.blamed():
            yield from _READERS[format_of(name, data.format)](file, data.text_field)


def identity(files: list[str]) -> str:
    """A cheap fingerprint of files that `expand` gave: 64 hexadecimal digits.

    It changes with their order and with any file's name, size or time of change (of objects: size and version, as one
    listing for each folder tells them); of the demo corpus it is the text's own hash.
    """
    known = traits([name for name in files if name != BUILTIN_CORPUS])
    digest = hashlib.sha256()
    for name in files:
        told = known.get(name) or [hashlib.sha256("\0".join(builtin.documents()).encode()).hexdigest()]
        digest.update(json.dumps([name, *told]).encode())
    return digest.hexdigest()


def split(files: list[str]) -> list[list[str]]:
    """Files as units that `read` may read apart from each other, in parallel; joined in order they are the whole."""
    return [[name] for name in files]
