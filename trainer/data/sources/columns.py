"""Columns of tables, as Parquet and Arrow hold them: which one is the text, and its rows as strings."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from trainer.data.sources.files import SourceFile
from trainer.data.sources.messages import named
from trainer.errors import UserError


def check_column(schema: Any, column: str, file: SourceFile) -> int:
    """The number of a table's text column. Raises UserError when there is none of that name, or not of strings."""
    if column not in schema.names:
        raise UserError(f"{file} has no column {column!r}, only {named(schema.names)}: set data.text_field")
    if (times := schema.names.count(column)) > 1:
        raise UserError(f"{file} has {times} columns {column!r}: give them names of their own")
    kind = schema.field(column).type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values)):
        raise UserError(f"{file}: column {column!r} holds {kind}, not strings: set data.text_field")
    index: int = schema.get_field_index(column)
    return index


def texts(rows: Any, column: str, first: int, file: SourceFile) -> Iterator[str]:
    """The strings of an Arrow array whose first is row `first` of the file, from 0; a null counts as empty."""
    for place, row in enumerate(rows):
        try:
            text = row.as_py()
        except UnicodeDecodeError as error:
            wrong = f"byte {error.start} of the text is 0x{error.object[error.start]:02x}"
            raise UserError(
                f"{file}: row {first + place} of column {column!r}, counted from 0, is not UTF-8: {wrong}; "
                "write the file anew, or leave it out"
            ) from error
        yield text or ""
