"""A job's log: lines numbered from 1, kept as compressed chunks, the oldest dropped beyond a cap.

A chunk is zlib over a JSON array of [time, attempt, process, level, message]; lines are numbered by their place, so the
numbers cost nothing. The newest chunk is rewritten as lines come until it holds CHUNK_BYTES.
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from service.storage.rows import put
from service.storage.tables import log_chunks
from vishwamai.contract.api import LogLine
from vishwamai.contract.reports import LogEvent

CHUNK_BYTES = 64 << 10
LINE_CHARACTERS = 16 << 10
"""Longer lines are cut."""

Line = tuple[str, int, int, str, str]


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines to read: those after `after`, or with `tail` the last so many; `limit` at most."""

    after: int = 0
    tail: int | None = None
    limit: int = 1000
    search: str | None = None
    """Text that a line must hold; case does not matter."""
    attempt: int | None = None
    process: int | None = None

    def admits(self, line: LogLine) -> bool:
        """True for a line that is wanted."""
        return (
            line.id > self.after
            and self.attempt in {None, line.attempt}
            and self.process in {None, line.process}
            and (self.search is None or self.search.lower() in line.message.lower())
        )


def append(
    connection: Connection, job_id: str, attempt: int, process: int, new: Iterable[LogEvent], *, cap: int
) -> None:
    """Adds lines, then drops the oldest chunks beyond `cap` stored bytes; the caller holds the job's lock."""
    lines: list[Line] = [(e.time.isoformat(), attempt, process, e.level, _shortened(e.message)) for e in new]
    if not lines:
        return
    query = select(log_chunks).where(log_chunks.c.job_id == job_id).order_by(log_chunks.c.first_id.desc()).limit(1)
    last = connection.execute(query).one_or_none()
    first_id, known = (last.last_id + 1, []) if last else (1, [])
    if last and last.raw_bytes < CHUNK_BYTES:
        first_id, known = last.first_id, _unpacked(last.data)
    raw = json.dumps([*known, *lines], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    data = zlib.compress(raw)
    values = {
        "last_id": first_id + len(known) + len(lines) - 1,
        "raw_bytes": len(raw),
        "stored_bytes": len(data),
        "data": data,
    }
    put(connection, log_chunks, {"job_id": job_id, "first_id": first_id}, values)
    _drop_oldest(connection, job_id, cap)


def read(connection: Connection, job_id: str, wanted: LogFilter) -> tuple[list[LogLine], int]:
    """Wanted lines in the order written, and the id up to which the log was looked through."""
    newest_first = wanted.tail is not None
    limit = wanted.limit if wanted.tail is None else min(wanted.tail, wanted.limit)
    order = log_chunks.c.first_id.desc() if newest_first else log_chunks.c.first_id
    query = select(log_chunks).where(log_chunks.c.job_id == job_id, log_chunks.c.last_id > wanted.after).order_by(order)
    found: list[LogLine] = []
    seen = wanted.after
    with connection.execution_options(yield_per=8).execute(query) as chunks:
        for line in _lines(chunks, newest_first=newest_first):
            if len(found) >= limit:
                break
            seen = max(seen, line.id)
            if wanted.admits(line):
                found.append(line)
    return (found[::-1] if newest_first else found), seen


def _lines(chunks: Iterable[Row[Any]], *, newest_first: bool) -> Iterator[LogLine]:
    for chunk in chunks:
        numbered = list(enumerate(_unpacked(chunk.data), start=chunk.first_id))
        for number, (time, attempt, process, level, message) in reversed(numbered) if newest_first else numbered:
            yield LogLine.model_validate(
                {"id": number, "time": time, "attempt": attempt, "process": process, "level": level, "message": message}
            )


def _drop_oldest(connection: Connection, job_id: str, cap: int) -> None:
    query = select(log_chunks.c.first_id, log_chunks.c.stored_bytes).where(log_chunks.c.job_id == job_id)
    total = 0
    for place, chunk in enumerate(connection.execute(query.order_by(log_chunks.c.first_id.desc())).all()):
        total += chunk.stored_bytes
        if place and total > cap:
            old = (log_chunks.c.job_id == job_id, log_chunks.c.first_id <= chunk.first_id)
            connection.execute(delete(log_chunks).where(*old))
            return


def _unpacked(data: bytes) -> list[Line]:
    lines: list[Line] = json.loads(zlib.decompress(data))
    return lines


def _shortened(message: str) -> str:
    if len(message) <= LINE_CHARACTERS:
        return message
    return f"{message[:LINE_CHARACTERS]}… ({len(message) - LINE_CHARACTERS} more characters)"
