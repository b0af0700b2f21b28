"""Python's logging becomes log events, and libraries speak only when something is wrong."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from trainer.reporting.reporter import Reporter, now
from vishwamai.contract.reports import LogEvent

_QUIET = ("absl", "orbax", "jax", "jaxlib", "flax", "etils", "httpx2", "httpcore2", "asyncio")


class LogHandler(logging.Handler):
    """Tells the reporter every record as a LogEvent."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Tells one record; its traceback, if any, follows the message."""
        self._reporter.tell(LogEvent(time=now(), level=_level(record.levelno), message=self.format(record)))


@contextmanager
def routed_logs(reporter: Reporter) -> Iterator[None]:
    """Sends this program's log lines and the warnings of libraries to the reporter, and nowhere else."""
    root, handler = logging.getLogger(), LogHandler(reporter)
    before, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("trainer").setLevel(logging.INFO)
    for name in _QUIET:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.ERROR)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers = before
        root.setLevel(level)


def _level(number: int) -> Literal["debug", "info", "warning", "error"]:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
