"""ArrayRecord: a record is a document.

A record is either UTF-8 text, or a JSON object whose field `text_field` is the text, as a line of JSONL is. The first
record of a file decides for all of them, so that a file which mixes both is refused and not misread.
"""

from collections.abc import Iterator
from typing import Any

from trainer.data.sources.files import SourceFile
from trainer.data.sources.jsonl import parsed, text_of
from trainer.data.sources.messages import MEND
from trainer.errors import UserError

_AT_ONCE = 64


def documents(file: SourceFile, text_field: str) -> Iterator[str]:
    """The text of every record."""
    # Imported here: the library is compiled for Linux and macOS alone.
    from array_record.python.array_record_module import ArrayRecordReader

    with file.on_disk() as path:
        reader = ArrayRecordReader(str(path), "readahead_buffer_size:0")
        count = reader.num_records()
        if not reader.ok() or not count:
            raise UserError(
                f"{file} holds no records that can be read: it is empty, cut short, or no ArrayRecord file: {MEND}"
            )
        is_json: bool | None = None
        for first in range(0, count, _AT_ONCE):
            for number, record in enumerate(_read(reader, first, min(first + _AT_ONCE, count), file), start=first):
                if is_json is None:
                    is_json = _is_object(record, text_field)
                place = f"{file}: record {number}, counted from 0,"
                yield text_of(parsed(record, place), text_field, place) if is_json else _text(record, place)
        reader.close()


def _read(reader: Any, first: int, stop: int, file: SourceFile) -> list[bytes]:
    try:
        found: list[bytes] = reader.read(first, stop)
    except (RuntimeError, IndexError, ValueError) as error:
        raise UserError(
            f"{file} is damaged in records {first} to {stop - 1}, counted from 0 ({error}): {MEND}"
        ) from error
    return found


def _is_object(record: bytes, text_field: str) -> bool:
    try:
        return text_field in parsed(record, "")
    except UserError:
        return False


def _text(record: bytes, place: str) -> str:
    try:
        return record.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place} is neither UTF-8 (byte {error.start} is 0x{record[error.start]:02x}) nor JSON: write records as "
            "text or as JSON objects; a tf.train.Example is not read"
        ) from error
