"""How long to believe that a control plane which does not answer will come back."""

import time
from collections.abc import Callable

from vishwamai.client.connection import LONGEST_PAUSE
from vishwamai.client.errors import Unreachable


class Patience:
    """Counts an outage: each failure pauses a little longer, until `seconds` of it are too much."""

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._since: float | None = None
        self._pause = 0.5

    @property
    def in_outage(self) -> bool:
        """True between a failure and the next success."""
        return self._since is not None

    def success(self) -> None:
        """Something answered."""
        self._since = None
        self._pause = 0.5

    def failure(self, error: Unreachable) -> None:
        """Nothing answered: pauses before the next try, or raises `error` when it has lasted too long."""
        now = self._clock()
        if self._since is None:
            self._since = now
        if now - self._since >= self._seconds:
            raise error
        self._sleep(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
