"""The log, for people who watch the trainer's stderr."""

from typing import TextIO

from trainer.reporting.reporter import Sink
from vishwamai.contract.reports import AnyEvent, LogEvent


class Console(Sink):
    """Prints log lines, and nothing else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def receive(self, event: AnyEvent) -> None:
        """Prints the event if it is a log line."""
        if isinstance(event, LogEvent):
            level = f"{event.level}: " if event.level in ("warning", "error") else ""
            self._stream.write(f"{level}{event.message}\n")
            self._stream.flush()
