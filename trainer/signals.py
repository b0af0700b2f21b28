"""SIGTERM and SIGINT become an order to end; the second of them ends the process at once.

Python runs signal handlers between bytecodes of the main thread, which may sit in XLA for minutes. The wake-up socket
is written by the C handler itself, and a thread of ours reads it.
"""

import os
import signal
import socket
import sys
import threading
from types import TracebackType

from trainer.orders import Orders
from vishwamai.contract.states import CAUSES, Cause

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """While entered, signals reach `orders`. For the main thread only."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    def __enter__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        # The handler has nothing to do, but without one the signal would kill the process.
        self._previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        self._theirs.close()
        self._thread.join()
        self._ours.close()

    def _watch(self) -> None:
        seen = 0
        while received := self._ours.recv(1):
            if received[0] not in _SIGNALS:
                continue
            seen += 1
            name = signal.Signals(received[0]).name
            if seen > 1:
                sys.stderr.write(f"second signal ({name}): ending at once, without saving\n")
                sys.stderr.flush()
                os._exit(CAUSES[Cause.PREEMPTED].exit_code)
            self._orders.ask_end(Cause.PREEMPTED, f"Stopped by {name}")
