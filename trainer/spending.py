"""Tells now and then where the attempt's time goes."""

import time

from trainer.goodput import Account
from trainer.reporting import Reporter, now
from vishwamai.contract.reports import GoodputEvent

_EVERY = 15.0
"""Seconds. A killed attempt leaves at most so much unaccounted for."""


class Spending:
    """Carries the account to the reporter."""

    def __init__(self, account: Account, reporter: Reporter) -> None:
        self._account, self._reporter = account, reporter
        self._told = float("-inf")

    def tell_if_due(self, step: int) -> None:
        """Tells, unless it has done so in the last seconds."""
        if time.monotonic() - self._told >= _EVERY:
            self.tell(step)

    def tell(self, step: int) -> None:
        """Where the time has gone up to now; `step` steps are done."""
        self._told = time.monotonic()
        seconds = self._account.seconds()
        self._reporter.tell(GoodputEvent(time=now(), step=step, wall_seconds=sum(seconds.values()), seconds=seconds))
