"""What to do next about a job: a pure function of its record, what is seen of its newest attempt, and the time.

    begin --> launch (repeated until seen) --> exited: end + succeeded | failed | cancelled
      ^                                                   + restarting --> back-off --+
      +-------------------------------------------------------------------------------+

Applying the actions and deciding again on the same sight records nothing new; a crash between any two of them is mended
by the next decision. Only calls to the launcher may repeat, and those change nothing the second time.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from service.reconcile.actions import Action, BeginAttempt, EndAttempt, Launch, Move, Restore, Terminate
from service.reconcile.outcome import conclude
from service.records import AttemptRecord, JobRecord, Observation
from service.restarts import back_off, counted_restarts
from service.wording import sentence
from vishwamai.contract.states import CAUSES, Cause, JobState

ASK_AFTER = timedelta(seconds=10)
"""A stop travels in the answers to reports. A trainer still there by then gets SIGTERM, on which it saves as well; and
SIGKILL when its grace, `run.grace_seconds`, is over."""
KILL_NOW_AFTER = timedelta(seconds=5)
"""A trainer told to stop without saving has this long."""

_BEFORE_START = {JobState.QUEUED, JobState.RESTARTING}
_NO_PROCESS_YET = {"launching", "pending"}
"""Codes of a starting job none of whose processes was seen or heard of. Reports bring others, and make it running."""


def decide(job: JobRecord, seen: Observation | None, now: datetime, *, wait: str | None = None) -> list[Action]:
    """The actions that bring the job nearer to its end.

    `seen` is None when nothing was or could be observed; `wait` says why a queued job may not start yet, as
    `waiting_reasons` knows.
    """
    attempt = job.attempt
    if seen is not None and (attempt is None or seen.attempt != attempt.number):
        seen = None
    between = attempt is None or attempt.ended_at is not None
    if job.state.is_terminal or (job.state == JobState.SUSPENDED and between):
        return _clean_up(job, seen, now)
    if attempt is None or attempt.ended_at is not None:
        return _between_attempts(job, now, wait)
    if seen is None:
        return []
    return _live_attempt(job, attempt, seen, now)


def waiting_reasons(jobs: Iterable[JobRecord], max_running: int | None) -> dict[str, str]:
    """Why each queued job may not start yet, by id: at most `max_running` jobs run at once, the oldest first."""
    jobs = list(jobs)
    if max_running is None:
        return {}
    queued = sorted((job for job in jobs if _waits(job)), key=lambda job: (job.created_at, job.id))
    running = sum(not job.state.is_terminal and job.state != JobState.SUSPENDED and not _waits(job) for job in jobs)
    reason = f"Waiting for a free slot: this machine runs {max_running} job{'s' * (max_running != 1)} at a time."
    return {job.id: reason for job in queued[max(0, max_running - running) :]}


def grace_of(job: JobRecord) -> timedelta:
    """The time that a trainer has from SIGTERM to its exit."""
    return timedelta(seconds=job.resolved.effective.run.grace_seconds)


def restore_of(job: JobRecord) -> Restore:
    """Where the newest attempt starts from.

    A step chosen by a retry holds until an attempt has started from it. After that, or once an earlier attempt has
    trained, the newest checkpoint: the config's own wish is for the first start, or each restart would undo progress.
    """
    since_retry = job.attempts[job.retried_at_attempt :]
    if job.restore_step is not None and not any(_has_trained(attempt) for attempt in since_retry[:-1]):
        return job.restore_step
    if any(_has_trained(attempt) for attempt in job.attempts[:-1]):
        return "newest"
    return job.resolved.effective.checkpoint.restore


def _has_trained(attempt: AttemptRecord) -> bool:
    return attempt.resumed_from is not None or attempt.first_step is not None or attempt.last_step is not None


def _waits(job: JobRecord) -> bool:
    return job.state == JobState.QUEUED and (job.attempt is None or job.attempt.ended_at is not None)


def _clean_up(job: JobRecord, seen: Observation | None, now: datetime) -> list[Action]:
    """A job at rest: nothing, unless its processes outlived its record."""
    if job.state == JobState.SUSPENDED and job.stop is not None:
        return [Move(JobState.CANCELLED, Cause.CANCELLED, "Cancelled on request while suspended.")]
    if seen is None or seen.phase in {"absent", "exited"}:
        return []
    return [Terminate(seen.attempt, kill=now - job.updated_at >= grace_of(job))]


def _between_attempts(job: JobRecord, now: datetime, wait: str | None) -> list[Action]:
    """No attempt is alive: settle what the last one's end means, begin the next one, or wait."""
    last = job.attempt
    if last is not None and last.cause is not None and last.ended_at is not None and job.state != JobState.QUEUED:
        move = _after(job, last.cause, last.message or "The attempt ended.")
        if move.state != JobState.RESTARTING or job.state != JobState.RESTARTING:
            return [move]
        if job.stop is None and now < last.ended_at + back_off(job):
            return []
    number = 1 if last is None else last.number + 1
    if job.stop is not None:
        return [Move(JobState.CANCELLED, Cause.CANCELLED, f"Cancelled on request before attempt {number} began.")]
    if job.state == JobState.QUEUED and wait is not None:
        return _moved(job, Move(JobState.QUEUED, "waiting", wait))
    begun = replace(job, attempts=(*job.attempts, AttemptRecord(number, now)))
    return [BeginAttempt(number), _launching(number), Launch(number, restore_of(begun))]


def _awaits_process(job: JobRecord) -> bool:
    return job.state == JobState.PROVISIONING or (job.state == JobState.STARTING and job.code in _NO_PROCESS_YET)


def _launching(number: int) -> Move:
    return Move(JobState.STARTING, "launching", f"Attempt {number} is being started.")


def _live_attempt(job: JobRecord, attempt: AttemptRecord, seen: Observation, now: datetime) -> list[Action]:
    """An attempt has begun and not ended."""
    if job.state in _BEFORE_START:  # the service was killed between the two records
        move = _launching(attempt.number)
        return [move, *_live_attempt(replace(job, state=move.state, code=move.code), attempt, seen, now)]
    if seen.phase == "exited":
        return _ended(job, attempt, seen, now)
    if seen.phase == "absent":
        return _absent(job, attempt, seen, now)
    if job.state == JobState.SUSPENDED:
        return [Terminate(attempt.number, kill=now - job.updated_at >= grace_of(job))]
    stop = _stop(job, attempt.number, now)
    if not _awaits_process(job):
        return stop
    if seen.phase == "running":
        reason = f"The trainer of attempt {attempt.number} runs; it has not reported yet."
        return [Move(JobState.STARTING, "started", reason), *stop]
    return _moved(job, Move(job.state, "pending", seen.message or "Waiting for a process.")) + stop


def _absent(job: JobRecord, attempt: AttemptRecord, seen: Observation, now: datetime) -> list[Action]:
    """Nothing is there: not launched yet, or vanished after it had been seen or heard of."""
    if not _awaits_process(job):
        return _ended(job, attempt, seen, now)
    if job.stop is None:
        return [Launch(attempt.number, restore_of(job))]
    reason = f"Cancelled on request before attempt {attempt.number} ran."
    return [
        Terminate(attempt.number, kill=True),  # should a launch still be on its way
        EndAttempt(attempt.number, now, Cause.CANCELLED, reason),
        Move(JobState.CANCELLED, Cause.CANCELLED, reason),
    ]


def _stop(job: JobRecord, number: int, now: datetime) -> list[Action]:
    """How firmly a trainer has to be told to stop by now."""
    if job.stop is None:
        return []
    waited = now - (job.stop_requested_at or now)
    if waited >= (ASK_AFTER + grace_of(job) if job.stop == "save" else KILL_NOW_AFTER):
        return [Terminate(number, kill=True)]
    return [Terminate(number, kill=False)] if job.stop == "save" and waited >= ASK_AFTER else []


def _ended(job: JobRecord, attempt: AttemptRecord, seen: Observation, now: datetime) -> list[Action]:
    """The processes are gone: record why, and what follows from it."""
    cause, message = conclude(attempt, seen)
    message = sentence(message) or "The attempt ended."
    if job.stop is not None and CAUSES[cause].retry != "never":
        cause, message = Cause.CANCELLED, f"Cancelled on request after step {attempt.last_step or 0}."
    ended_at = seen.ended_at or now
    end = EndAttempt(attempt.number, ended_at, cause, message, dict(seen.exit_codes), seen.last_lines)
    if job.state == JobState.SUSPENDED:
        return [end]
    ended = replace(attempt, ended_at=ended_at, exit_codes=seen.exit_codes, cause=cause, message=message)
    return [end, _after(replace(job, attempts=(*job.attempts[:-1], ended)), cause, message)]


def _after(job: JobRecord, cause: Cause, message: str) -> Move:
    """Where a job goes whose newest attempt has ended for this cause."""
    if cause == Cause.COMPLETED:
        return Move(JobState.SUCCEEDED, cause, message)
    if cause == Cause.CANCELLED:
        return Move(JobState.CANCELLED, cause, message)
    if CAUSES[cause].retry == "never":
        return Move(JobState.FAILED, cause, message)
    allowed = job.resolved.effective.run.max_restarts
    if counted_restarts(job) > allowed:
        return Move(JobState.FAILED, cause, f"{message} No restart is left: run.max_restarts is {allowed}.")
    wait = back_off(job).total_seconds()
    when = f"in {wait:.0f} s" if wait else "at once"
    return Move(JobState.RESTARTING, cause, f"{message} The next attempt starts {when}.")


def _moved(job: JobRecord, move: Move) -> list[Action]:
    """The move, unless the job is already there for that reason."""
    return [] if (job.state, job.code, job.reason) == (move.state, move.code, move.reason) else [move]
