"""Makes the batches of the next steps while the present one runs."""

import time
from collections.abc import Callable

import grain

_AHEAD, _THREADS = 4, 2


class Prefetcher[T]:
    """Calls `fetch(step)` for consecutive steps in Grain's threads, at most four ahead of the step that takes them."""

    def __init__(self, fetch: Callable[[int], T], first: int, last: int) -> None:
        steps = grain.MapDataset.range(first, last + 1).map(fetch)
        self._batches = iter(steps.to_iter_dataset(grain.ReadOptions(_THREADS, _AHEAD)))
        self._batches.start_prefetch()
        self._peeked: list[T] = []

    def peek(self) -> T:
        """The batch of the next step; `take` gives it again."""
        if not self._peeked:
            self._peeked.append(next(self._batches))
        return self._peeked[0]

    def take(self) -> tuple[T, float]:
        """The batch of the next step, and the seconds it had to be waited for."""
        began = time.perf_counter()
        batch = self._peeked.pop() if self._peeked else next(self._batches)
        return batch, time.perf_counter() - began

    def close(self) -> None:
        """Makes no more batches; those under way are thrown away."""
        self._batches.close()
