"""The one thing that training tells its events to; sinks carry them on."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime

from trainer.reporting.lines import log_lines
from vishwamai.contract.reports import AnyEvent, LogEvent, Phase, PhaseEvent


def now() -> datetime:
    """The present time, with offset."""
    return datetime.now(UTC)


class Sink(ABC):
    """Somewhere events go. Calls never overlap and must not block for long."""

    @abstractmethod
    def receive(self, event: AnyEvent) -> None:
        """Takes one event; an OSError is reported once and otherwise ignored."""

    def resume(self, step: int, evaluated: int) -> None:  # noqa: B027 (most sinks need not know)
        """Training goes on from `step`: what an earlier life said of later steps no longer holds.

        Nor does what it said of evaluations after step `evaluated`, which are made again.
        """

    def close(self) -> None:  # noqa: B027 (most sinks hold nothing back)
        """Carries off what is left."""


class Reporter:
    """Hands every event to every sink, in one order, from any thread. A sink that fails never stops training.

    Ahead of an event that people want to read about goes the line of the log that says it, as a LogEvent: what the
    console prints, log.jsonl keeps and the control plane shows is one and the same log.
    """

    def __init__(self, sinks: Sequence[Sink], max_steps: int) -> None:
        """`max_steps` is the length of the run, for its progress."""
        self._sinks = list(sinks)
        self._max_steps = max_steps
        self._failed: set[int] = set()
        self._lock = threading.RLock()

    def add(self, sink: Sink) -> None:
        """From now on this sink is told, too."""
        with self._lock:
            self._sinks.append(sink)

    def tell(self, event: AnyEvent) -> None:
        """Something happened."""
        with self._lock:
            for line in log_lines(event, self._max_steps):
                self._pass_on(line)
            if not isinstance(event, LogEvent):
                self._pass_on(event)

    def phase(self, phase: Phase, step: int, message: str | None = None) -> None:
        """The trainer begins to do something else."""
        self.tell(PhaseEvent(time=now(), phase=phase, step=step, message=message))

    def resume(self, step: int, evaluated: int) -> None:
        """Training goes on from `step`, 0 being the beginning; the newest evaluation was of step `evaluated`."""
        with self._lock:
            for sink in self._sinks:
                sink.resume(step, evaluated)

    def close(self) -> None:
        """Carries off what is left, the last sink first; events that come after a sink has closed pass it by."""
        while self._sinks:
            with self._lock:
                sink = self._sinks.pop()
            try:
                sink.close()
            except OSError as error:
                self._report_failure(sink, error)

    def _pass_on(self, event: AnyEvent) -> None:
        for sink in self._sinks:
            try:
                sink.receive(event)
            except OSError as error:
                self._report_failure(sink, error)

    def _report_failure(self, sink: Sink, error: OSError) -> None:
        if id(sink) not in self._failed:
            self._failed.add(id(sink))
            self.tell(LogEvent(time=now(), level="warning", message=f"{type(sink).__name__} cannot write: {error}"))
