"""What a file's name says: its format, and how it is compressed."""

from pathlib import PurePosixPath
from typing import Literal

Format = Literal["text", "jsonl", "parquet", "arrow", "array_record"]
Compression = Literal["gzip", "zstd", "bz2", "lz4", "xz"]

_FORMATS: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".array_record": "array_record",
    ".arrayrecord": "array_record",
}
_COMPRESSIONS: dict[str, Compression] = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".lz4": "lz4",
    ".xz": "xz",
}
ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar"})
"""Hold files of their own, and are not read."""


def compression_of(name: str) -> Compression | None:
    """How a file is compressed as a whole, by the end of its name."""
    return _COMPRESSIONS.get(_suffix(name))


def format_of(name: str, asked: str) -> Format:
    """What data.format says, or under 'auto' the name; anything that has no known ending is text."""
    if asked != "auto":
        return asked  # type: ignore[return-value]  # the contract's other values are exactly these
    inner = name[: -len(_suffix(name))] if compression_of(name) else name
    return _FORMATS.get(_suffix(inner), "text")


def is_archive(name: str) -> bool:
    """Whether a file is an archive of others, compressed or not."""
    inner = name[: -len(_suffix(name))] if compression_of(name) else name
    return _suffix(inner) in ARCHIVES


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
