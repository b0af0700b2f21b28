"""Reports on their way: kept in order until the control plane has them, and on disk while it is away."""

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

_LOG = logging.getLogger(__name__)
LIMIT_BYTES = 32 * 2**20


@dataclass(slots=True)
class Entry:
    """One report, encoded."""

    attempt: int
    seq: int
    body: bytes
    on_disk: bool = False

    @property
    def name(self) -> str:
        """File name; names sort as reports were made."""
        return f"attempt-{self.attempt:06}-{self.seq:010}.json"


class Spool:
    """First in, first out, and bounded: where there is no more room, the oldest go."""

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES) -> None:
        """Begins with what an earlier life could not deliver."""
        self._folder = folder
        self._limit = limit_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.dropped = 0
        for path in sorted(folder.glob("attempt-*.json")):
            _, attempt, seq = path.stem.split("-")
            self.add(Entry(int(attempt), int(seq), path.read_bytes(), on_disk=True))

    def add(self, entry: Entry) -> None:
        """Puts a report last."""
        self._entries.append(entry)
        self._bytes += len(entry.body)
        while self._bytes > self._limit and len(self._entries) > 1:
            self.remove_first()
            self.dropped += 1

    @property
    def first(self) -> Entry | None:
        """The report to deliver next."""
        return self._entries[0] if self._entries else None

    def remove_first(self) -> None:
        """Forgets a report that was delivered, refused, or has no room."""
        entry = self._entries.popleft()
        self._bytes -= len(entry.body)
        if entry.on_disk:
            (self._folder / entry.name).unlink(missing_ok=True)

    def write(self) -> None:
        """Puts on disk what is not there yet, for the next life. A disk that refuses costs only that."""
        for entry in self._entries:
            if entry.on_disk:
                continue
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                draft = self._folder / (entry.name + ".draft")
                draft.write_bytes(entry.body)
                draft.replace(self._folder / entry.name)
            except OSError as error:
                _LOG.debug("report %s stays in memory only: %s", entry.name, error)
                return
            entry.on_disk = True
