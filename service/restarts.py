"""How often a job may start again, and how long it waits: functions of its record alone, so a restarted service agrees.

Causes with a `counted` retry use up `run.max_restarts`. `free` ones (preemption, maintenance) do not, until
FREE_IN_A_ROW of them have followed each other without one new step: then the host is hardly at fault, and they count.
"""

from collections.abc import Iterator
from datetime import timedelta

from service.records import AttemptRecord, JobRecord
from vishwamai.contract.states import CAUSES

FREE_IN_A_ROW = 5
LONGEST_WAIT = 60.0
"""Seconds."""


def counted_restarts(job: JobRecord) -> int:
    """Ends since the user last retried that used up a restart."""
    return sum(is_counted for _, is_counted in _ends(job))


def restarts_left(job: JobRecord) -> int:
    """Counted restarts the job still has."""
    return max(0, job.resolved.effective.run.max_restarts - counted_restarts(job))


def back_off(job: JobRecord) -> timedelta:
    """The wait between the newest attempt's end and the next start: 1, 2, 4, ... 60 seconds, none after a free end."""
    ends = list(_ends(job))
    if not ends or not ends[-1][1]:
        return timedelta()
    return timedelta(seconds=min(LONGEST_WAIT, 2.0 ** (counted_restarts(job) - 1)))


def _ends(job: JobRecord) -> Iterator[tuple[AttemptRecord, bool]]:
    """Ended attempts since the last retry, each with whether it used up a restart."""
    furthest = max((a.last_step or 0 for a in job.attempts[: job.retried_at_attempt]), default=0)
    idle = 0
    for attempt in job.attempts[job.retried_at_attempt :]:
        if attempt.cause is None:
            continue
        reached = attempt.last_step or 0
        idle = 0 if reached > furthest else idle + 1
        furthest = max(furthest, reached)
        retry = CAUSES[attempt.cause].retry
        yield attempt, retry == "counted" or (retry == "free" and idle >= FREE_IN_A_ROW)
