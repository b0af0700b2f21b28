"""Files and globs to documents, as text.

Every error is a UserError that names the field of the config, the file, and the place inside it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data import builtin
from trainer.errors import UserError
from vishwamai.contract.config import BUILTIN_CORPUS, DataSection

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_COMPRESSED = {".gz", ".zst", ".bz2", ".xz", ".zip", ".tar", ".tgz"}
_ROWS_AT_ONCE = 1024


def expand(locations: list[str], field: str) -> list[str]:
    """The files that locations mean, each once: globs (`**` too) expanded and sorted, the demo corpus by its name."""
    found: dict[str, None] = {}
    for location in locations:
        found.update(dict.fromkeys([location] if location == BUILTIN_CORPUS else _files(location, field)))
    return list(found)


def read(files: list[str], data: DataSection, field: str) -> Iterator[str]:
    """The documents of files that `expand` gave, in order. `field` is the config's name for them, e.g. 'data.train'."""
    for file in files:
        if file == BUILTIN_CORPUS:
            yield from builtin.documents()
            continue
        path = Path(file)
        kind = _FORMATS.get(path.suffix.lower(), "text") if data.format == "auto" else data.format
        with _blaming(path, field):
            yield from _READERS[kind](path, data.text_field, field)


def identity(files: list[str]) -> str:
    """A cheap fingerprint of files that `expand` gave: 64 hexadecimal digits.

    It changes with their order and with any file's name, size or time of change; of the demo corpus it is the text's
    own hash.
    """
    digest = hashlib.sha256()
    for file in files:
        if file == BUILTIN_CORPUS:
            traits = [hashlib.sha256("\0".join(builtin.documents()).encode()).hexdigest()]
        else:
            stat = Path(file).stat()
            traits = [str(stat.st_size), str(stat.st_mtime_ns)]
        digest.update(json.dumps([file, *traits]).encode())
    return digest.hexdigest()


def split(files: list[str]) -> list[list[str]]:
    """Files as units that `read` may read apart from each other, in parallel; joined in order they are the whole."""
    return [[file] for file in files]


def _files(location: str, field: str) -> list[str]:
    if "://" in location:
        raise UserError(f"{field}: {location!r} is an address, and this release reads files: mount or copy it first")
    path = Path(location).expanduser()
    if has_magic(location) and not path.exists():
        # Unlike Path.glob, this leaves hidden files out.
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]  # noqa: PTH207
        files = [match for match in matches if match.is_file()]
        if not files:
            raise UserError(f"{field}: no file matches {location!r} (looked from {Path.cwd()})")
    else:
        files = [path]
    return [str(_readable(file, field)) for file in files]


def _readable(path: Path, field: str) -> Path:
    path = path.resolve()
    if path.is_dir():
        raise UserError(f"{field}: {str(path)!r} is a folder: name its files, e.g. {str(path / '**' / '*.txt')!r}")
    if not path.exists():
        raise UserError(f"{field}: there is no file {str(path)!r}")
    if path.suffix.lower() in _COMPRESSED:
        raise UserError(f"{field}: {str(path)!r} is compressed, and this release reads plain files: unpack it first")
    return path


@contextmanager
def _blaming(path: Path, field: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError(
            f"{field}: {str(path)!r} is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}; "
            "convert it, or leave it out"
        ) from error
    except OSError as error:
        raise UserError(f"{field}: cannot read {str(path)!r}: {error.strerror or error}") from error


def _text(path: Path, text_field: str, field: str) -> Iterator[str]:
    yield path.read_bytes().decode("utf-8").removeprefix("\ufeff")


def _jsonl(path: Path, text_field: str, field: str) -> Iterator[str]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            place = f"{field}: {path}:{number}"
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield _field_of(_object(line.rstrip(), place), text_field, place)


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise UserError(f"{place} is not UTF-8: byte {error.start} of the line is 0x{wrong:02x}") from error
    except ValueError as error:
        raise UserError(f"{place} is not JSON ({error}); JSONL holds one whole object per line") from error
    if not isinstance(value, dict):
        raise UserError(f"{place} holds a JSON {type(value).__name__}, not an object; JSONL holds one object per line")
    return value


def _field_of(document: dict[str, Any], text_field: str, place: str) -> str:
    """The text; a null counts as empty, and so is left out later and counted."""
    if text_field not in document:
        raise UserError(f"{place} has no field {text_field!r}, only {_names(document)}: set data.text_field")
    text = document[text_field]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{place}: field {text_field!r} holds {type(text).__name__}, not a string: set data.text_field")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{place}: field {text_field!r} holds half a surrogate pair at character {error.start}"
        ) from error
    return text


def _parquet(path: Path, text_field: str, field: str) -> Iterator[str]:
    try:
        table = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{field}: {str(path)!r} is not a Parquet file ({error})") from error
    with table:
        schema = table.schema_arrow
        if text_field not in schema.names:
            names = _names(schema.names)
            raise UserError(f"{field}: {str(path)!r} has no column {text_field!r}, only {names}: set data.text_field")
        kind = schema.field(text_field).type
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values)):
            raise UserError(f"{field}: column {text_field!r} of {str(path)!r} holds {kind}, not strings")
        try:
            for rows in table.iter_batches(_ROWS_AT_ONCE, columns=[text_field]):
                yield from (text or "" for text in rows.column(0).to_pylist())
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{field}: {str(path)!r} is damaged ({error})") from error


def _names(names: Any, most: int = 20) -> str:
    listed = [repr(name) for name in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "") or "none"


_READERS: dict[str, Callable[[Path, str, str], Iterator[str]]] = {"text": _text, "jsonl": _jsonl, "parquet": _parquet}
