"""Where an attempt's time goes: every moment belongs to one state, so the states add up to the wall time.

    init       before there is a state to train: loading libraries, meeting other processes, reading the corpus
    restore    reading a checkpoint, or making the first state
    compile    compiling the step
    data_wait  the device has nothing to do, because the next batch is not there
    step       training, the only state that is productive
    eval       evaluating
    save_stall training waits for a checkpoint
    other      all else: the sample at the end, saving before an end, what lies between

The clock never goes backwards, whatever becomes of the machine's time. States nest: what happens inside `spent` belongs
to the inner state.
"""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vishwamai.contract.reports import Spending

_RECENT = 101
"""Steps that the median is taken over."""


class Account:
    """The time of one attempt. One thread spends, any may look."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began = self._since = clock()
        self._states: list[Spending] = ["init"]
        self._seconds: dict[Spending, float] = {}
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self.changes = 0
        """How often the state has changed: a number that stands still belongs to a thread that does."""

    @property
    def state(self) -> Spending:
        """What is being done."""
        return self._states[-1]

    @property
    def steps(self) -> int:
        """Steps so far, of which at most a hundred are remembered."""
        return len(self._steps)

    @property
    def median_step(self) -> float:
        """Seconds, over recent steps; 0 before the first."""
        with self._lock:
            return statistics.median(self._steps) if self._steps else 0.0

    @contextmanager
    def spent(self, state: Spending) -> Iterator[None]:
        """What happens inside belongs to this state."""
        self._change(lambda: self._states.append(state))
        began = self._since
        try:
            yield
        finally:
            self._change(lambda: self._states.pop())
            if state == "step":
                with self._lock:
                    self._steps.append(self._since - began)

    def goes_on_as(self, state: Spending) -> None:
        """From here on, outside of every `spent`."""

        def change() -> None:
            self._states[0] = state

        self._change(change)

    def seconds(self) -> dict[Spending, float]:
        """By state, up to now."""
        self._change(lambda: None, counts=False)
        with self._lock:
            return dict(self._seconds)

    def wall_seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._began

    def _change(self, change: Callable[[], object], *, counts: bool = True) -> None:
        with self._lock:
            now = self._clock()
            self._seconds[self.state] = self._seconds.get(self.state, 0.0) + now - self._since
            self._since = now
            change()
            self.changes += counts
