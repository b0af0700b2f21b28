"""JSONL: every line is an object, and one of its fields the document."""

import json
import logging
from collections.abc import Iterator
from typing import Any

from trainer.data.sources.files import SourceFile
from trainer.data.sources.messages import MEND, named
from trainer.errors import UserError

_LOG = logging.getLogger(__name__)
_BOM = b"\xef\xbb\xbf"


def documents(file: SourceFile, text_field: str) -> Iterator[str]:
    """The field of every line that is not blank; a null counts as empty, and so is left out later and counted."""
    begin = number = 0
    with file.stream() as stream:
        for number, line in enumerate(stream, start=1):
            place = f"{file.field}: {file.name}:{number}"
            size, ended = len(line), line.endswith(b"\n")
            if number == 1:
                line = line.removeprefix(_BOM)
            if not line.isspace() and line:
                yield text_of(parsed(line, place, begin, ended=ended), text_field, place)
            begin += size
    if not number:
        _LOG.warning("%s is empty (0 bytes) and adds nothing", file)


def parsed(line: bytes, place: str, begin: int = 0, *, ended: bool = True) -> dict[str, Any]:
    """The object of a line that begins at a byte of its file. `ended`: a line break follows it."""
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start} of the line (byte {begin + error.start} of the file) is 0x{line[error.start]:02x}"
        raise UserError(f"{place} is not UTF-8: {wrong}; convert the file, or leave it out") from error
    except ValueError as error:
        if not ended:
            raise UserError(f"{place} is the last line, from byte {begin}, and is cut off ({error}): {MEND}") from error
        raise UserError(
            f"{place} is not JSON (from byte {begin}: {error}); JSONL holds one whole object per line"
        ) from error
    except RecursionError as error:
        raise UserError(f"{place} is nested too deeply to be read: leave it out") from error
    if not isinstance(value, dict):
        raise UserError(f"{place} holds a JSON {type(value).__name__}, not an object; JSONL holds one object per line")
    return value


def text_of(document: dict[str, Any], text_field: str, place: str) -> str:
    """The text of an object; empty where it is null."""
    if text_field not in document:
        raise UserError(f"{place} has no field {text_field!r}, only {named(document)}: set data.text_field")
    text = document[text_field]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{place}: field {text_field!r} holds {type(text).__name__}, not a string: set data.text_field")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: field {text_field!r} holds half a surrogate pair at character {error.start}: write "
            "the whole character, or leave the line out"
        ) from error
    return text
