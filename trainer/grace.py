"""Whether a save fits into the time between SIGTERM and the kill, said before it matters.

    needed = s median steps + the longest of the last saves

s is the step under way; where several processes agree on an order (agreement.py), two more. A save already under way
when the order comes is waited for, too.
"""

import threading
from collections import deque
from collections.abc import Callable

from trainer.goodput import Account
from trainer.reporting import now
from vishwamai.contract.problems import Notice
from vishwamai.contract.reports import NoticeEvent

_SAVES = 5
CODE = "grace-too-short"


class Grace:
    """Judges after each save, and tells when the answer changes."""

    def __init__(
        self, seconds: float, account: Account, tell: Callable[[NoticeEvent], None], *, alone: bool = True
    ) -> None:
        """`seconds` is run.grace_seconds; `alone`: the attempt has one process."""
        self._seconds, self._account, self._tell = seconds, account, tell
        self._steps = 1 if alone else 3
        self._saves: deque[float] = deque(maxlen=_SAVES)
        self._lock = threading.Lock()
        self._short = False

    def saved(self, seconds: float) -> None:
        """A checkpoint took so long from its beginning to its commit."""
        with self._lock:
            self._saves.append(seconds)
            needed = self.needed()
            if (needed > self._seconds) == self._short:
                return
            self._short = not self._short
        self._tell(NoticeEvent(time=now(), notice=self._notice(needed), holds=self._short))

    def needed(self) -> float:
        """Seconds from SIGTERM to the exit; 0 before the first save."""
        return self._steps * self._account.median_step + max(self._saves) if self._saves else 0.0

    def _notice(self, needed: float) -> Notice:
        return Notice(
            code=CODE,
            pointer="/run/grace_seconds",
            message=f"A save before the end takes about {needed:.1f} s, and run.grace_seconds leaves "
            f"{self._seconds:g} s: a preemption would cost the steps since the last checkpoint.",
            fix=f"raise run.grace_seconds above {needed:.0f} where the place allows it, lower logging.save_every, or "
            "save to a faster disk",
        )
