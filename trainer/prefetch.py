"""Makes the next step's batch while the present step runs."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Prefetcher[T]:
    """Calls `fetch(step)` for consecutive steps, one ahead, in a thread."""

    def __init__(self, fetch: Callable[[int], T], first: int, last: int) -> None:
        self._fetch = fetch
        self._last = last
        self._pool = ThreadPoolExecutor(1, "prefetch")
        self._next = first
        self._ahead: Future[T] = self._pool.submit(fetch, first)

    @property
    def ready(self) -> bool:
        """Whether `take` returns at once."""
        return self._ahead.done()

    def peek(self) -> T:
        """The batch of the next step; `take` gives it again."""
        return self._ahead.result()

    def take(self) -> tuple[T, float]:
        """The batch of the next step, and the seconds it had to be waited for."""
        began = time.perf_counter()
        batch = self._ahead.result()
        waited = time.perf_counter() - began
        self._next += 1
        if self._next <= self._last:
            self._ahead = self._pool.submit(self._fetch, self._next)
        return batch, waited

    def close(self) -> None:
        """Fetches no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
