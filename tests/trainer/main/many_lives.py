"""Lives of one run, each in a process of its own: forked from one that has imported everything and made no devices.

    python -m tests.trainer.main.many_lives        an order a line on stdin, JSON; the exit status a line on stdout

An order has `job` and `output`, and for a life that is to be killed `signal`, `kind` (the event it waits for),
`phase` (of a phase), `count` (the how manieth), and `delay` (seconds from there).
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import trainer.run  # noqa: F401 (what takes seconds to import)
from tests.trainer.run.lives import live
from trainer.reporting import Sink
from vishwamai.contract.reports import AnyEvent
from vishwamai.contract.resolved import ResolvedJob


class Killer(Sink):
    """Sends this process a signal, some time after an event."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._left = order["count"]

    def receive(self, event: AnyEvent) -> None:
        of_phase = getattr(event, "phase", None) == self._order["phase"]
        if event.kind == self._order["kind"] and of_phase and self._left:
            self._left -= 1
            if not self._left:
                number = signal.Signals[self._order["signal"]]
                threading.Timer(self._order["delay"], os.kill, (os.getpid(), number)).start()


def main() -> None:
    """Obeys until stdin ends."""
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            job = ResolvedJob.model_validate_json(Path(order["job"]).read_bytes())
            killer = Killer(order) if "signal" in order else Killer({"count": 0, "kind": "", "phase": None})
            os._exit(live(job, Path(order["output"]), killer))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
