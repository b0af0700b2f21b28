import pytest

from service.storage import ForbiddenMove, KeyReused, UnknownJob
from tests.service.records import LATER, NOW, queued, report, running
from vishwamai.contract.states import TRANSITIONS, Cause, JobState

END = {
    "ended_at": LATER,
    "exit_codes": {0: 73, 1: -15},
    "cause": Cause.PREEMPTED,
    "message": "Taken back.",
    "last_lines": ["one", "two"],
}


@pytest.fixture(params=[True, False], ids=["twice", "once"])
def repeat(request):
    """Calls a change once, and in the other variant twice: nothing may differ."""

    def call(change, *arguments, **fields):
        for _ in range(2 if request.param else 1):
            change(*arguments, **fields)

    return call


def story(store):
    return [event.message for event in store.events("j1")]


def test_a_job_lives_through_its_attempts(store, repeat):
    store.create(queued())
    repeat(store.begin_attempt, "j1", 1, NOW)
    repeat(store.move, "j1", JobState.STARTING, "launching", "Starting.", NOW)
    repeat(store.end_attempt, "j1", 1, **END)
    repeat(store.move, "j1", JobState.RESTARTING, "preempted", "Again.", LATER)
    repeat(store.begin_attempt, "j1", 2, LATER)
    repeat(store.move, "j1", JobState.FAILED, "host_error", "Broken.", LATER)
    record = store.job("j1")
    assert [(a.number, a.cause, a.exit_codes) for a in record.attempts] == [
        (1, Cause.PREEMPTED, {0: 73, 1: -15}),
        (2, None, {}),
    ]
    assert (record.state, record.ended_at) == (JobState.FAILED, LATER)
    assert story(store) == [
        "Accepted.",
        "Attempt 1 begins.",
        "Starting.",
        "Attempt 1 ended: Taken back.",
        "Again.",
        "Attempt 2 begins.",
        "Broken.",
    ]
    assert store.live_jobs() == []


@pytest.mark.parametrize("state", JobState)
def test_only_moves_of_the_contract_are_made(store, state):
    routes = {"queued": [], "running": ["starting", "running"], "restarting": ["starting", "restarting"]}
    for target in JobState:
        store.create(queued(target))
        for step in routes.get(state, [state]):
            store.move(target, JobState(step), "x", "x", NOW)
        if target == state or (target in TRANSITIONS[state] and not state.is_terminal):
            store.move(target, target, "y", "y", LATER)
            assert store.job(target).state == target
        else:
            with pytest.raises(ForbiddenMove, match=f"is {state} and cannot become {target}"):
                store.move(target, target, "y", "y", LATER)
            assert store.job(target).state == state


def test_another_reason_for_the_same_code_is_no_news(store):
    running(store)
    before = len(store.events("j1"))
    store.move("j1", JobState.STARTING, "launching", "Still.", LATER)
    assert (store.job("j1").reason, len(store.events("j1"))) == ("Still.", before)
    store.move("j1", JobState.STARTING, "pending", "Waiting.", LATER)
    assert len(store.events("j1")) == before + 1


def test_attempts_begin_in_order_and_never_after_the_end(store):
    store.create(queued())
    with pytest.raises(ForbiddenMove):
        store.begin_attempt("j1", 2, NOW)
    store.request_stop("j1", "save", NOW)
    with pytest.raises(ForbiddenMove, match="cancelled"):
        store.begin_attempt("j1", 1, NOW)


def test_a_retry_starts_the_count_anew(store, repeat):
    running(store)
    store.request_stop("j1", "now", NOW)
    store.end_attempt("j1", 1, **END)
    store.move("j1", JobState.CANCELLED, "cancelled", "Cancelled.", NOW)
    repeat(store.retry, "j1", 40, LATER)
    record = store.job("j1")
    assert (record.state, record.stop, record.stop_requested_at, record.ended_at) == (JobState.QUEUED, None, None, None)
    assert (record.retried_at_attempt, record.restore_step) == (1, 40)
    assert len(story(store)) == 7
    store.move("j1", JobState.QUEUED, "waiting", "For a slot.", LATER)
    repeat(store.retry, "j1", 40, LATER)
    assert store.job("j1").code == "waiting"
    store.begin_attempt("j1", 2, LATER)


def test_a_decision_made_before_the_end_does_not_undo_it(store):
    store.create(queued())
    store.request_stop("j1", "save", NOW)
    with pytest.raises(ForbiddenMove, match="cancelled"):
        store.move("j1", JobState.QUEUED, "waiting", "For a slot.", LATER)
    assert store.job("j1").state == JobState.CANCELLED


def test_a_decision_made_before_a_report_does_not_undo_it(store):
    running(store)
    told = {"kind": "phase", "time": NOW, "phase": "compiling", "step": 0}
    store.store_report("j1", report(told), NOW)
    with pytest.raises(ForbiddenMove, match="its code was launching and is compiling"):
        store.move("j1", JobState.STARTING, "started", "It runs.", LATER, was=(JobState.STARTING, "launching"))
    assert store.job("j1").code == "compiling"


def test_a_key_makes_one_job(store):
    assert store.create(queued("j1"), key="k", request_hash="h") == "j1"
    assert store.create(queued("j2"), key="k", request_hash="h") == "j1"
    with pytest.raises(KeyReused):
        store.create(queued("j3"), key="k", request_hash="other")
    assert [job.id for job in store.live_jobs()] == ["j1"]


def test_an_unknown_job_is_told_apart(store):
    assert store.job("nobody") is None
    for change in (
        lambda: store.move("nobody", JobState.FAILED, "x", "x", NOW),
        lambda: store.begin_attempt("nobody", 1, NOW),
        lambda: store.end_attempt("nobody", 1, **END),
        lambda: store.request_stop("nobody", "save", NOW),
        lambda: store.retry("nobody", None, NOW),
    ):
        with pytest.raises(UnknownJob, match="nobody"):
            change()
