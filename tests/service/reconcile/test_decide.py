from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.reconcile import decide as deciding
from service.reconcile.actions import BeginAttempt, EndAttempt, Launch, Move, Terminate
from service.reconcile.decide import ASK_AFTER, KILL_NOW_AFTER, waiting_reasons
from tests.service.reconcile.world import START, ended, job, live, seen
from vishwamai.contract.states import Cause, JobState

RUNNING = JobState.RUNNING
GRACE = timedelta(seconds=30)
"""The default of run.grace_seconds."""


def decide(*args, **kwargs) -> list[Any]:
    return list(deciding.decide(*args, **kwargs))


def end_of(record, observation):
    """The recorded cause of the attempt's end, and where the job goes."""
    end, move = decide(record, observation, START)
    assert isinstance(end, EndAttempt)
    assert isinstance(move, Move)
    return end, move


def test_an_accepted_job_is_recorded_before_it_is_launched():
    begin, move, launch = decide(job(), None, START)
    assert begin == BeginAttempt(1)
    assert (move.state, move.code) == (JobState.STARTING, "launching")
    assert launch == Launch(1, "newest")


def test_a_launch_is_repeated_until_a_process_is_seen():
    starting = job(live(), state=JobState.STARTING)
    assert decide(starting, seen("absent"), START) == [Launch(1, "newest")]
    [move] = decide(starting, seen("running"), START)
    assert (move.state, move.code) == (JobState.STARTING, "started")


def test_what_a_launcher_waits_for_becomes_the_reason():
    [move] = decide(job(live(), state=JobState.STARTING), seen("pending", message="No node has a free chip."), START)
    assert move == Move(JobState.STARTING, "pending", "No node has a free chip.")


def test_nothing_is_done_about_an_attempt_that_could_not_be_observed():
    assert decide(job(live(), state=RUNNING), None, START) == []
    assert decide(job(live(2), state=RUNNING), seen("exited", 0, attempt=1), START) == []


def test_a_process_that_vanished_after_reporting_is_a_host_error():
    end, move = end_of(job(live(last_step=7), state=RUNNING), seen("absent"))
    assert end.cause == Cause.HOST_ERROR
    assert "vanished" in end.message
    assert move.state == JobState.RESTARTING


@pytest.mark.parametrize(
    ("code", "cause", "state"),
    [
        (0, Cause.COMPLETED, JobState.SUCCEEDED),
        (2, Cause.USER_ERROR, JobState.FAILED),
        (78, Cause.USER_ERROR, JobState.FAILED),
        (70, Cause.OUT_OF_MEMORY, JobState.FAILED),
        (71, Cause.NON_FINITE, JobState.FAILED),
        (75, Cause.CANCELLED, JobState.CANCELLED),
        (1, Cause.INTERNAL, JobState.RESTARTING),
        (-11, Cause.INTERNAL, JobState.RESTARTING),
        (137, Cause.HOST_ERROR, JobState.RESTARTING),
        (-9, Cause.HOST_ERROR, JobState.RESTARTING),
        (143, Cause.PREEMPTED, JobState.RESTARTING),
        (73, Cause.PREEMPTED, JobState.RESTARTING),
        (None, Cause.HOST_ERROR, JobState.RESTARTING),
    ],
)
def test_an_exit_code_alone_tells_the_cause(code, cause, state):
    end, move = end_of(job(live(), state=RUNNING), seen("exited", code))
    assert (end.cause, move.state, move.code) == (cause, state, cause)


@pytest.mark.parametrize(
    ("reported", "code", "cause"),
    [
        (Cause.USER_ERROR, 2, Cause.USER_ERROR),
        (Cause.COMPLETED, -9, Cause.COMPLETED),  # killed on its way out
        (Cause.COMPLETED, None, Cause.COMPLETED),
        (Cause.NON_FINITE, 1, Cause.NON_FINITE),  # crashed on its way out
        (Cause.COMPLETED, 1, Cause.INTERNAL),  # crashed before it was really done
        (Cause.NON_FINITE, 2, Cause.USER_ERROR),
    ],
)
def test_the_trainers_own_word_wins_where_the_code_does_not_contradict_it(reported, code, cause):
    attempt = live(reported_cause=reported, reported_message="What the trainer said.")
    end, move = end_of(job(attempt, state=RUNNING), seen("exited", code))
    assert end.cause == cause
    assert ("What the trainer said." in move.reason) == (cause == reported)


def test_the_first_host_that_failed_by_itself_speaks_for_all():
    codes = {0: -9, 1: 0, 2: 71, 3: 1}
    end, _ = end_of(job(live(), state=RUNNING), replace(seen("exited"), exit_codes=codes))
    assert end.cause == Cause.NON_FINITE
    assert end.exit_codes == codes


def test_an_unexplained_end_quotes_the_last_line():
    end, move = end_of(job(live(), state=RUNNING), seen("exited", 1, last_lines=("one", "Bus error", "")))
    assert end.last_lines == ("one", "Bus error", "")
    assert "Bus error" in move.reason


def test_restarts_last_as_long_as_run_max_restarts():
    faults = [ended(n, Cause.HOST_ERROR) for n in range(1, 4)]
    _, move = end_of(job(*faults[:1], live(2), state=RUNNING, max_restarts=2), seen("exited", 74, attempt=2))
    assert move.state == JobState.RESTARTING
    _, move = end_of(job(*faults[:2], live(3), state=RUNNING, max_restarts=2), seen("exited", 74, attempt=3))
    assert (move.state, move.code) == (JobState.FAILED, Cause.HOST_ERROR)
    assert "run.max_restarts is 2" in move.reason


def test_a_retry_counts_from_there():
    faults = [ended(n, Cause.HOST_ERROR) for n in range(1, 5)]
    record = job(*faults, live(5), state=RUNNING, max_restarts=1, retried_at_attempt=4)
    assert end_of(record, seen("exited", 74, attempt=5))[1].state == JobState.RESTARTING


def test_preemptions_use_up_no_restart_and_start_again_at_once():
    lives = [ended(n, Cause.PREEMPTED, last_step=n * 10) for n in range(1, 21)]
    record = job(*lives, state=JobState.RESTARTING, max_restarts=0)
    assert decide(record, None, START)[0] == BeginAttempt(21)


def test_preemptions_without_progress_count_in_the_end():
    lives = [ended(n, Cause.PREEMPTED, last_step=30) for n in range(1, 6)]  # the first of them got somewhere
    record = job(*lives, live(6), state=RUNNING, max_restarts=0)
    assert end_of(record, seen("exited", 73, attempt=6))[1].state == JobState.FAILED
    further = job(*lives, live(6, last_step=31), state=RUNNING, max_restarts=0)
    assert end_of(further, seen("exited", 73, attempt=6))[1].state == JobState.RESTARTING


def test_faults_wait_longer_each_time():
    waits = []
    for count in range(1, 10):
        record = job(
            *(ended(n, Cause.INTERNAL) for n in range(1, count + 1)), state=JobState.RESTARTING, max_restarts=20
        )
        waits.append(next(s for s in range(100) if decide(record, None, START + timedelta(seconds=s))))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_crash_between_end_and_move_is_settled_by_the_end():
    for state in (JobState.STARTING, RUNNING, JobState.RESTARTING):
        [move] = decide(job(ended(1, Cause.USER_ERROR), state=state), None, START)
        assert move == Move(JobState.FAILED, Cause.USER_ERROR, "It ended.")
    [move] = decide(job(ended(1, Cause.COMPLETED), state=RUNNING, stop="save"), None, START)
    assert move.state == JobState.SUCCEEDED


def test_cancelled_before_anything_ran():
    [move] = decide(job(stop="save"), None, START)
    assert move.state == JobState.CANCELLED
    [move] = decide(job(ended(1, Cause.HOST_ERROR), state=JobState.RESTARTING, stop="save"), None, START)
    assert move.state == JobState.CANCELLED
    terminate, end, move = decide(job(live(), state=JobState.STARTING, stop="save"), seen("absent"), START)
    assert terminate == Terminate(1, kill=True)
    assert (end.cause, move.state) == (Cause.CANCELLED, JobState.CANCELLED)


@pytest.mark.parametrize(
    ("stop", "waited", "actions"),
    [
        ("save", timedelta(), []),
        ("save", ASK_AFTER, [Terminate(1, kill=False)]),
        ("save", ASK_AFTER + GRACE - timedelta(seconds=1), [Terminate(1, kill=False)]),
        ("save", ASK_AFTER + GRACE, [Terminate(1, kill=True)]),
        ("now", timedelta(), []),
        ("now", KILL_NOW_AFTER, [Terminate(1, kill=True)]),
    ],
)
def test_a_trainer_is_told_to_stop_ever_more_firmly(stop, waited, actions):
    record = job(live(), state=RUNNING, stop=stop, stop_requested_at=START)
    assert decide(record, seen("running"), START + waited) == actions


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (73, JobState.CANCELLED),
        (75, JobState.CANCELLED),
        (-9, JobState.CANCELLED),
        (1, JobState.CANCELLED),
        (0, JobState.SUCCEEDED),
        (71, JobState.FAILED),
    ],
)
def test_the_end_of_a_job_that_was_asked_to_stop(code, state):
    record = job(live(last_step=12), state=RUNNING, stop="save", stop_requested_at=START)
    end, move = end_of(record, seen("exited", code))
    assert move.state == state
    assert (end.cause == Cause.CANCELLED) == (state == JobState.CANCELLED)


def restore_of_next(record):
    return next(action.restore for action in decide(record, None, START) if isinstance(action, Launch))


def test_a_retrys_checkpoint_holds_until_an_attempt_has_started_from_it():
    first = ended(1, Cause.NON_FINITE, last_step=90)
    retried: dict[str, Any] = {"restore_step": 40, "retried_at_attempt": 1}
    assert restore_of_next(job(first, **retried)) == 40
    unborn, resumed = ended(2, Cause.PREEMPTED), ended(2, Cause.PREEMPTED, resumed_from=40)
    assert restore_of_next(job(first, unborn, state=JobState.RESTARTING, **retried)) == 40
    assert restore_of_next(job(first, resumed, state=JobState.RESTARTING, **retried)) == "newest"


def test_a_configs_own_start_is_for_the_first_time_only():
    record = job()
    checkpoint = record.resolved.effective.checkpoint.model_copy(update={"restore": "never"})
    effective = record.resolved.effective.model_copy(update={"checkpoint": checkpoint})
    record = replace(record, resolved=record.resolved.model_copy(update={"effective": effective}))
    assert restore_of_next(record) == "never"
    trained = replace(record, state=JobState.RESTARTING, attempts=(ended(1, Cause.PREEMPTED, last_step=3),))
    assert restore_of_next(trained) == "newest"


def test_ended_jobs_are_left_alone_unless_a_process_outlived_the_record():
    for state in JobState:
        if not state.is_terminal:
            continue
        record = job(ended(1, Cause.CANCELLED), state=state, stop="save")
        assert decide(record, seen("exited", 0), START) == []
        assert decide(record, None, START) == []
        assert decide(record, seen("running"), START) == [Terminate(1, kill=False)]
        assert decide(record, seen("running"), START + GRACE) == [Terminate(1, kill=True)]


def test_the_oldest_queued_jobs_get_the_free_slots():
    queued = [job(id=f"job-{n}", created_at=START + timedelta(seconds=n)) for n in (3, 1, 2)]
    running = job(live(), id="job-0", state=RUNNING)
    between = job(ended(1, Cause.HOST_ERROR), id="job-9", state=JobState.RESTARTING)
    done = job(ended(1, Cause.COMPLETED), id="job-8", state=JobState.SUCCEEDED)
    assert set(waiting_reasons([running, done, *queued], 2)) == {"job-2", "job-3"}
    assert set(waiting_reasons([running, between, *queued], 2)) == {"job-1", "job-2", "job-3"}
    assert waiting_reasons([running, *queued], None) == {}


def test_a_waiting_job_says_why_once():
    reason = waiting_reasons([job()], 0)["job-1"]
    [move] = decide(job(), None, START, wait=reason)
    assert move == Move(JobState.QUEUED, "waiting", reason)
    assert decide(job(code=move.code, reason=move.reason), None, START, wait=reason) == []
