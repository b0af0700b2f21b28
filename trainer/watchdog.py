"""Ends a run that no longer moves: dumps what every thread is at and what devices hold, and exits as stalled.

A collective that one host never joins waits forever, and so do reads from a dead disk. So a thread looks at the
account of the attempt (goodput.py): each change of its state is a sign of life.

    in a step       no sign for max(10 x median step, run.stall_seconds)
    anywhere else   no sign for max(12 x run.stall_seconds, one hour): compiling, restoring, evaluating, saving, and in
                    the first steps, where a process waits for those that still compile

Time during which this very process was stopped, or its machine slept, is no silence of the run: at most two looks'
worth counts from one look to the next.
"""

import faulthandler
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from types import TracebackType

from trainer.goodput import Account
from vishwamai.contract.states import CAUSES, Cause

_LOG = logging.getLogger(__name__)

STEPS = 10
ELSEWHERE = 12
FIRST = 3
LEAST_ELSEWHERE = 3600.0
"""Seconds."""
_LOOK = 1.0
"""Seconds between looks, at most."""
_LAST_WORDS = 5.0
"""Seconds for what is said before the exit; whatever hangs the run may hang that, too."""


class Watchdog:
    """While entered, watches the account; `stalled` is told why the process is about to exit."""

    def __init__(
        self,
        account: Account,
        stall_seconds: float,
        stalled: Callable[[str], None],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """`stalled` may take its time, and is left behind after some seconds."""
        self._account, self._stall_seconds = account, stall_seconds
        self._stalled, self._leave = stalled, leave
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def limit(self) -> float:
        """Seconds without a sign of life that the present state may have."""
        if self._account.state in {"step", "data_wait"} and self._account.steps >= FIRST:
            return max(STEPS * self._account.median_step, self._stall_seconds)
        return max(ELSEWHERE * self._stall_seconds, LEAST_ELSEWHERE)

    def _watch(self) -> None:
        pause = min(_LOOK, self._stall_seconds / 8)
        seen, silent, looked = self._account.changes, 0.0, time.monotonic()
        while not self._ended.wait(pause):
            now = time.monotonic()
            silent, looked = silent + min(now - looked, 2 * pause), now
            if self._account.changes != seen:
                seen, silent = self._account.changes, 0.0
            if silent > self.limit():
                self._give_up(silent)
                return

    def _give_up(self, silent: float) -> None:
        last_words = threading.Thread(target=self._tell, args=(silent,), name="last words", daemon=True)
        last_words.start()
        last_words.join(_LAST_WORDS)
        self._leave(CAUSES[Cause.STALLED].exit_code)

    def _tell(self, silent: float) -> None:
        state = self._account.state
        _LOG.error("nothing has moved for %.0f s (%s); what every thread is at:\n%s", silent, state, thread_dump())
        _LOG.error("the devices: %s", device_state())
        self._stalled(f"Nothing has moved for {silent:.0f} s, the state being {state}. {CAUSES[Cause.STALLED].hint}")


def thread_dump() -> str:
    """The stack of every thread, newest call first; needs no lock that a hung thread may hold."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode(errors="replace")


def device_state() -> str:
    """What this process's devices hold, in one line."""
    import jax

    states = []
    for device in jax.local_devices():
        memory = device.memory_stats() or {}
        held = {name: memory[name] for name in ("bytes_in_use", "peak_bytes_in_use", "bytes_limit") if name in memory}
        words = ", ".join(f"{name} {value}" for name, value in held.items()) or "tells nothing of its memory"
        states.append(f"{device} {words}")
    return "; ".join(states)
