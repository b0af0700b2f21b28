"""Whatever is recorded and seen, and wherever the service is killed: one process at a time, legal moves, an end."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.reconcile.actions import BeginAttempt, Launch, Terminate
from service.reconcile.decide import decide
from tests.service.reconcile.world import START, World, ended, job, live, record, seen
from vishwamai.contract.states import CAUSES, Cause, JobState

CODES = [None, 0, 1, 2, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 137, 143, -9, -15, 200]
SIGHTS = [None, seen("absent"), seen("pending", message="It waits."), seen("running")]
SIGHTS += [seen("exited", code) for code in CODES]
LIVES = [None, live(), live(last_step=5), live(reported_cause=Cause.COMPLETED), live(reported_cause=Cause.PREEMPTED)]
LIVES += [ended(1, cause, last_step=5) for cause in Cause]
CASES = list(product(JobState, LIVES, (None, "save", "now")))


def possible(state, life):
    """Whether storage can hold this: an attempt that is alive has a job that is."""
    if life is None:
        return state in {JobState.QUEUED, JobState.SUSPENDED, JobState.CANCELLED}
    return not (state.is_terminal and life.ended_at is None)  # an end is recorded before the move it leads to


def settle(job, sight):
    """Decides on the same sight until only calls to the launcher are left; the records on the way.

    Of an attempt begun meanwhile, nothing is there yet.
    """
    records = [job]
    for _ in range(4):
        changed = False
        newest = records[-1].attempt
        sight_now = sight if newest is None or newest.number == 1 else seen("absent", attempt=newest.number)
        for action in decide(records[-1], sight_now, START):
            after = record(records[-1], action, START)
            changed |= after is not records[-1]
            records.append(after)
        if not changed:
            return records
    raise AssertionError("it never settles")


@pytest.mark.parametrize("state", JobState)
def test_deciding_is_legal_settles_and_survives_a_kill_anywhere(state):
    tried = 0
    for case_state, life, stop in CASES:
        if case_state != state or not possible(state, life):
            continue
        before = job(*([life] if life else []), state=state, stop=stop, stop_requested_at=START if stop else None)
        for sight in SIGHTS[life is None :]:  # where there is no attempt, what comes first is that it is absent
            records = settle(before, sight)
            for halfway in records:
                again = settle(halfway, sight)[-1]
                assert (again.state, len(again.attempts)) == (records[-1].state, len(records[-1].attempts))
                assert again.attempt == records[-1].attempt
            tried += 1
    assert tried > 100


def test_ends_are_final():
    for state, life, stop in CASES:
        if state.is_terminal and possible(state, life):
            for sight in SIGHTS:
                actions = decide(job(*([life] if life else []), state=state, stop=stop), sight, START)
                assert all(isinstance(action, Terminate) for action in actions)


class Life(RuleBasedStateMachine):
    """A job under a service that is killed at will, processes that die at will, and an impatient owner."""

    @rule(max_restarts=st.integers(0, 3))
    @precondition(lambda self: not self.world)
    def accept(self, max_restarts):
        self.world = [World(job(max_restarts=max_restarts))]

    def __init__(self):
        super().__init__()
        self.world = []
        self.step = 0

    @property
    def it(self):
        return self.world[0]

    @rule(survive=st.none() | st.integers(0, 3), seconds=st.floats(0, 100))
    @precondition(lambda self: self.world)
    def tick(self, survive, seconds):
        self.it.later(seconds)
        self.it.tick(survive=survive)

    @rule(code=st.sampled_from(CODES), reported=st.none() | st.sampled_from(Cause))
    @precondition(lambda self: self.world and "running" in self.it.processes.values())
    def exit(self, code, reported):
        [number] = [number for number, phase in self.it.processes.items() if phase == "running"]
        self.it.exit(number, code)
        attempt = self.it.job.attempt
        if attempt.number == number and attempt.ended_at is None:
            self.change_attempt(reported_cause=reported)

    @rule(progress=st.booleans())
    @precondition(lambda self: self.world and "running" in self.it.processes.values())
    def report(self, progress):
        attempt = self.it.job.attempt
        if attempt.ended_at is not None:
            return
        self.step += progress
        self.change_attempt(first_step=1, last_step=self.step)
        if self.it.job.state in {JobState.STARTING, JobState.RESTARTING}:
            self.it.job = replace(self.it.job, state=JobState.RUNNING, code="training")

    @rule(stop=st.sampled_from(["save", "now"]))
    @precondition(lambda self: self.world and not self.it.job.state.is_terminal)
    def stop(self, stop):
        self.it.job = replace(self.it.job, stop=stop, stop_requested_at=self.it.now)

    @rule()
    @precondition(lambda self: self.world and self.it.job.state in {JobState.FAILED, JobState.CANCELLED})
    def retry(self):
        fields = {"state": JobState.QUEUED, "code": "retried", "stop": None, "stop_requested_at": None}
        self.it.job = replace(self.it.job, **fields, retried_at_attempt=len(self.it.job.attempts), restore_step=3)

    def change_attempt(self, **fields):
        attempts = self.it.job.attempts
        self.it.job = replace(self.it.job, attempts=(*attempts[:-1], replace(attempts[-1], **fields)))

    @invariant()
    def one_process_at_a_time(self):
        if self.world:
            assert list(self.it.processes.values()).count("running") <= 1
            assert len(self.it.started) == len(set(self.it.started))

    @invariant()
    def no_process_outlives_its_record(self):
        if self.world and self.it.job.state.is_terminal:
            assert "running" not in self.it.processes.values()

    def teardown(self):
        """From anywhere, a service that is left alone and processes that end bring the job to its end."""
        if not self.world:
            return
        for _ in range(40):
            self.it.later(61)
            self.it.tick()
            for number, phase in list(self.it.processes.items()):
                if phase == "running":
                    self.it.exit(number, CAUSES[Cause.STALLED].exit_code)
        assert self.it.job.state.is_terminal


Life.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestLife = Life.TestCase


def test_the_attempt_is_on_record_before_its_launch():
    for state, life, stop in CASES:
        if not possible(state, life):
            continue
        for sight in SIGHTS:
            actions = decide(job(*([life] if life else []), state=state, stop=stop), sight, START)
            begun = {life.number} if life else set()
            for action in actions:
                if isinstance(action, BeginAttempt):
                    begun.add(action.number)
                if isinstance(action, Launch):
                    assert action.number in begun
