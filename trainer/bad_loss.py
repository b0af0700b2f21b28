"""What a run does about a loss that goes bad: which losses do, and which batches a run that has gone back leaves out.

    spike       loss > training.spike_threshold x median of the last WINDOW good losses, once there are LEAST of them
    batch(s)    the s-th of the numbers 1, 2, 3, ... that are not left out

so a step's batch is a function of the step and of what was left out, which checkpoints keep.
"""

import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

WINDOW = 64
LEAST = 16
TRIES = 3
"""So often may a run go bad without coming further than before."""


class Spikes:
    """Judges each step's loss against those before; without a threshold none is bad."""

    def __init__(self, threshold: float | None, before: Iterable[float] = ()) -> None:
        """`before` is what `state` gave."""
        self._threshold = threshold
        self._good: deque[float] = deque(before, maxlen=WINDOW)

    def judge(self, loss: float) -> str | None:
        """What is wrong with a loss in nats per token; None takes it for good."""
        if self._threshold is None:
            return None
        if len(self._good) >= LEAST and loss > self._threshold * (median := statistics.median(self._good)):
            return f"is above training.spike_threshold {self._threshold:g} times {median:.4f}, the median before it"
        self._good.append(loss)
        return None

    def state(self) -> list[float]:
        """What a checkpoint keeps."""
        return list(self._good)


class LeftOut:
    """The batches that a run leaves out, and how often it has gone back to do so."""

    def __init__(self, saved: dict[str, Any] | None = None) -> None:
        """`saved` is what `state` gave."""
        saved = saved or {}
        self.batches: tuple[int, ...] = tuple(saved.get("batches", ()))
        """Their numbers, ascending."""
        self._furthest: int = saved.get("furthest", 0)
        self._tries: int = saved.get("tries", 0)

    def batch_of(self, step: int) -> int:
        """The number of the batch that a step trains on, from 1."""
        for batch in self.batches:
            step += batch <= step
        return step

    def add(self, steps: Sequence[int]) -> list[int] | None:
        """Leaves out the batches of bad steps and answers with their numbers; None when it has been tried enough."""
        self._tries = 1 if steps[-1] > self._furthest else self._tries + 1
        self._furthest = max(self._furthest, steps[-1])
        if self._tries > TRIES:
            return None
        added = [self.batch_of(step) for step in steps]
        self.batches = tuple(sorted({*self.batches, *added}))
        return added

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"batches": list(self.batches), "furthest": self._furthest, "tries": self._tries}
