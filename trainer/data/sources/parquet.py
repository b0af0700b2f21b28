"""Parquet: a row is a document. Read by row groups, and within them by batches of a few megabytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.sources.columns import check_column, texts
from trainer.data.sources.files import SourceFile
from trainer.data.sources.messages import MEND
from trainer.errors import UserError

_BATCH_BYTES = 16 * 2**20
_MOST_ROWS = 1024


def documents(file: SourceFile, text_field: str) -> Iterator[str]:
    """The column `text_field` of every row."""
    with file.seekable() as stream:
        table = _opened(stream, file)
        index = check_column(table.schema_arrow, text_field, file)
        first = 0
        for group in range(table.num_row_groups):
            facts = table.metadata.row_group(group)
            for batch in _batches(table, group, _rows_at_once(facts, index), text_field, file, first):
                yield from texts(batch, text_field, first, file)
                first += len(batch)


def _opened(stream: Any, file: SourceFile) -> Any:
    try:
        # An object in a store is asked for whole column chunks, not for page after page.
        return pq.ParquetFile(pa.PythonFile(stream, "r"), pre_buffer=not isinstance(file.place, Path))
    except pa.ArrowInvalid as error:
        size = stream.seek(0, 2)
        raise UserError(f"{file} ({size} bytes) is no Parquet file, or was cut short ({error}): {MEND}") from error


def _batches(table: Any, group: int, rows: int, column: str, file: SourceFile, first: int) -> Iterator[Any]:
    try:
        for batch in table.iter_batches(rows, row_groups=[group], columns=[column]):
            yield batch.column(0)
            first += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{file} is damaged in row group {group}, at row {first} or after it ({error}): {MEND}"
        ) from error


def _rows_at_once(group: Any, column: int) -> int:
    """So many rows of a group that their texts are about _BATCH_BYTES, by the mean of its column."""
    columns = [group.column(number) for number in range(group.num_columns)]
    size = columns[column].total_uncompressed_size if column < len(columns) else 0
    return max(1, min(_MOST_ROWS, _BATCH_BYTES * max(group.num_rows, 1) // max(size, 1)))
