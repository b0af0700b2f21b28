"""Arrow: a row is a document.

Both forms of Arrow's IPC format are read, which the first bytes tell apart:

- a file (Feather v2): the magic ARROW1, record batches, an index of them at the end;
- a stream, as Hugging Face `datasets` saves and caches: a schema, record batches, and a mark that the stream ends.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainer.data.sources.columns import check_column, texts
from trainer.data.sources.files import SourceFile
from trainer.data.sources.messages import MEND
from trainer.errors import UserError

_MAGIC, _FEATHER_V1 = b"ARROW1", b"FEA1"
_END = bytes(4)
"""Both ways of Arrow to end a stream end in it."""


def documents(file: SourceFile, text_field: str) -> Iterator[str]:
    """The column `text_field` of every row; nothing else of the file is decoded."""
    with file.seekable() as stream:
        is_file = _check_ends(stream, file)
        with _source(stream, file) as source:
            source.seek(0)
            opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
            index = check_column(_attempt(lambda: opened(source).schema, file, 0), text_field, file)
            options = pa.ipc.IpcReadOptions(included_fields=[index])
            source.seek(0)
            reader = _attempt(lambda: opened(source, options=options), file, 0)
            first = 0
            for batch in _batches(reader, file) if is_file else _stream_batches(reader, file):
                yield from texts(batch.column(0), text_field, first, file)
                first += batch.num_rows


def _source(stream: Any, file: SourceFile) -> Any:
    """Local files are mapped, so that a record batch of any size is read page by page."""
    return pa.memory_map(file.name) if isinstance(file.place, Path) else pa.PythonFile(stream, "r")


def _check_ends(stream: Any, file: SourceFile) -> bool:
    """Whether it is of the file form. Raises UserError when it cannot be Arrow, or was not written to its end."""
    head = stream.read(8)
    if not head:
        raise UserError(f"{file} is empty (0 bytes), which no Arrow file is: {MEND}")
    if head.startswith(_FEATHER_V1):
        raise UserError(f"{file} is Feather of version 1: write it anew with pyarrow.feather.write_feather")
    if head.startswith(_MAGIC):
        stream.seek(-len(_MAGIC), 2)
        if stream.read() != _MAGIC:
            raise UserError(f"{file} is cut short: an Arrow file ends as it begins; {MEND}")
        return True
    stream.seek(-min(len(head), len(_END)), 2)
    if stream.read() != _END:
        raise UserError(
            f"{file} is no Arrow file, or a stream that was cut short or is still being written: "
            f"{MEND}, or name its data.format"
        )
    return False


def _batches(reader: Any, file: SourceFile) -> Iterator[Any]:
    for number in range(reader.num_record_batches):
        yield _attempt(lambda number=number: reader.get_batch(number), file, number)


def _stream_batches(reader: Any, file: SourceFile) -> Iterator[Any]:
    number = 0
    while (batch := _attempt(lambda: next(reader, None), file, number)) is not None:
        yield batch
        number += 1


def _attempt(action: Any, file: SourceFile, batch: int) -> Any:
    try:
        return action()
    except (pa.ArrowException, OSError, EOFError) as error:
        raise UserError(
            f"{file} is damaged or cut short at its record batch {batch}, counted from 0 ({error}): {MEND}"
        ) from error
