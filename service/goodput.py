"""What a job's time went to, over all its attempts: a function of its record alone.

    wall = sum of the categories that trainers report + between
    between: starting and ending processes, and waiting for the next attempt
    productive = step - lost, where lost is the share of an attempt's steps that a later one had to take again

A live attempt counts up to its newest account, a job at rest up to its newest attempt's end.
"""

from collections import defaultdict
from datetime import datetime

from service.records import AttemptRecord, JobRecord
from vishwamai.contract.api import Goodput


def goodput(job: JobRecord) -> Goodput | None:
    """The job's account; None before anything was reported."""
    lives = [attempt for attempt in job.attempts if attempt.goodput is not None or attempt.ended_at is not None]
    if not any(attempt.goodput is not None for attempt in lives):
        return None
    seconds: defaultdict[str, float] = defaultdict(float)
    lost_steps, lost_seconds = 0, 0.0
    for attempt in lives:
        found = attempt.goodput.seconds if attempt.goodput else {}
        for category, share in found.items():
            seconds[category] += share
        lost = lost_of(job, attempt) or 0
        lost_steps += lost
        lost_seconds += found.get("step", 0.0) * lost / max(_trained(attempt), lost, 1)
    # A trainer's clock may run ahead of ours by a little.
    wall = max((_end(lives[-1]) - lives[0].started_at).total_seconds(), sum(seconds.values()))
    seconds["between"] = wall - sum(seconds.values())
    return Goodput(
        wall_seconds=wall,
        productive_seconds=seconds["step"] - lost_seconds,
        lost_seconds=lost_seconds,
        lost_steps=lost_steps,
        seconds=dict(seconds),
    )


def lost_of(job: JobRecord, attempt: AttemptRecord) -> int | None:
    """Steps of this attempt that the next one had to take again; None while no later one has begun to train."""
    if attempt.last_step is None:
        return 0 if attempt.ended_at is not None else None
    for later in job.attempts[attempt.number :]:
        if later.resumed_from is not None or later.first_step is not None:
            return max(0, attempt.last_step - (later.resumed_from or 0))
    return None


def _trained(attempt: AttemptRecord) -> int:
    return (attempt.last_step or 0) - (attempt.resumed_from or 0)


def _end(attempt: AttemptRecord) -> datetime:
    if attempt.ended_at is not None:
        return attempt.ended_at
    assert attempt.goodput is not None
    return attempt.goodput.time
