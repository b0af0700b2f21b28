"""A job's record and its processes in memory: what decisions are tried on. Illegal moves fail the test."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from service.reconcile.actions import Action, BeginAttempt, EndAttempt, Launch, Move, Terminate
from service.reconcile.decide import decide
from service.records import AttemptRecord, JobRecord, Observation
from tests.trainer.jobs import tiny_job
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import TRANSITIONS, Cause, JobState

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def job(*attempts: AttemptRecord, state: JobState = JobState.QUEUED, max_restarts: int = 3, **fields: Any) -> JobRecord:
    """A job record; its code and reason fit a job that reports."""
    codes = {JobState.QUEUED: "accepted", JobState.STARTING: "launching", JobState.RUNNING: "training"}
    values: dict[str, Any] = {
        "id": "job-1",
        "name": "a job",
        "state": state,
        "code": codes.get(state, str(state)),
        "reason": "as the test says",
        "created_at": START,
        "updated_at": START,
        "resolved": _resolved(max_restarts),
        "attempts": attempts,
    } | fields
    return JobRecord(**values)


@cache
def _resolved(max_restarts: int) -> ResolvedJob:
    return tiny_job(run={"max_restarts": max_restarts})


def live(number: int = 1, **fields) -> AttemptRecord:
    """An attempt that has not ended."""
    return AttemptRecord(number, START, **fields)


def ended(number: int, cause: Cause, *, last_step: int | None = None, at: datetime = START, **fields) -> AttemptRecord:
    """An attempt that has."""
    return AttemptRecord(number, START, at, last_step=last_step, cause=cause, message="It ended.", **fields)


def seen(phase: Any, code: int | None = None, *, attempt: int = 1, **fields) -> Observation:
    """What a launcher with one process sees."""
    return Observation("job-1", attempt, phase, exit_codes={} if code is None else {0: code}, **fields)


def record(job: JobRecord, action: Action, now: datetime) -> JobRecord:
    """The record after the action, as storage keeps it."""
    match action:
        case BeginAttempt(number):
            assert not job.state.is_terminal
            assert job.attempt is None or job.attempt.ended_at is not None
            assert number == len(job.attempts) + 1
            return replace(job, attempts=(*job.attempts, AttemptRecord(number, now)))
        case EndAttempt():
            assert job.attempt is not None
            assert job.attempt.number == action.number
            assert job.attempt.ended_at is None
            assert action.message
            end = replace(
                job.attempt,
                ended_at=action.ended_at,
                cause=action.cause,
                message=action.message,
                exit_codes=action.exit_codes,
            )
            return replace(job, attempts=(*job.attempts[:-1], end))
        case Move(state, code, reason):
            assert state == job.state or state in TRANSITIONS[job.state], f"{job.state} -> {state}"
            assert (state, code, reason) != (job.state, job.code, job.reason), "a move that changes nothing"
            assert code
            assert reason
            assert "\n" not in reason
            return replace(job, state=state, code=str(code), reason=reason, updated_at=now)
        case Launch() | Terminate():
            return job


@dataclass
class World:
    """One job, its processes by attempt, and the time. Killing the service means applying only some of the actions."""

    job: JobRecord
    now: datetime = START
    processes: dict[int, str] = field(default_factory=dict)
    """By attempt: 'running', or how it exited."""
    exits: dict[int, int] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)

    def observe(self) -> Observation | None:
        attempt = self.job.attempt
        if attempt is None or attempt.ended_at is not None:
            return None
        if attempt.number not in self.processes:
            return seen("absent", attempt=attempt.number)
        if self.processes[attempt.number] == "running":
            return seen("running", attempt=attempt.number)
        return seen("exited", self.exits.get(attempt.number), attempt=attempt.number)

    def tick(self, *, survive: int | None = None) -> list[Action]:
        """One pass of the loop, of which only the first `survive` actions are applied."""
        actions = decide(self.job, self.observe(), self.now)
        for action in actions[:survive]:
            self.job = record(self.job, action, self.now)
            match action:
                case Launch(number) if number not in self.processes:
                    assert self.job.attempt is not None
                    assert self.job.attempt.number == number, "launched before it was recorded"
                    self.processes[number] = "running"
                    self.started.append(number)
                case Terminate(number, kill) if self.processes.get(number) == "running":
                    self.exit(number, -9 if kill else 73)
                case Terminate(number):
                    self.processes.setdefault(number, "exited")
        return actions

    def exit(self, number: int, code: int | None) -> None:
        """The processes of an attempt end; with no code, nobody saw how."""
        self.processes[number] = "exited"
        if code is not None:
            self.exits[number] = code

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
