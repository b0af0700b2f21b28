"""States, causes, reports and the environment: what programs say to each other."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from vishwamai.contract.environment import OUTPUT, RESOLVED, TrainerEnvironment
from vishwamai.contract.reports import MAX_EVENTS, AnyEvent, LogEvent, Report
from vishwamai.contract.states import CAUSES, TRANSITIONS, Cause, JobState, cause_of_exit

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def reachable(start: JobState) -> set[JobState]:
    seen: set[JobState] = set()
    ahead = [start]
    while ahead:
        state = ahead.pop()
        ahead += TRANSITIONS[state] - seen
        seen |= TRANSITIONS[state]
    return seen


def test_every_state_can_be_reached_and_left():
    assert set(TRANSITIONS) == set(JobState)
    assert reachable(JobState.QUEUED) == set(JobState)
    for state in JobState:
        assert state not in TRANSITIONS[state]
        if not state.is_terminal:
            assert {JobState.CANCELLED, JobState.FAILED} <= TRANSITIONS[state]


def test_terminal_states_only_start_again():
    terminal = {state for state in JobState if state.is_terminal}
    assert terminal == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    assert all(TRANSITIONS[state] <= {JobState.QUEUED} for state in terminal)


def test_exit_codes_tell_causes_apart():
    assert set(CAUSES) == set(Cause)
    codes = [facts.exit_code for facts in CAUSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(0 <= code < 126 for code in codes), "codes from 126 belong to the shell and to signals"
    assert all(facts.hint for facts in CAUSES.values())
    for cause, facts in CAUSES.items():
        assert cause_of_exit(facts.exit_code) is cause


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (78, Cause.USER_ERROR),
        (-9, Cause.HOST_ERROR),
        (137, Cause.HOST_ERROR),
        (-15, Cause.PREEMPTED),
        (143, Cause.PREEMPTED),
        (99, Cause.INTERNAL),
    ],
)
def test_other_exit_codes(code: int, cause: Cause):
    assert cause_of_exit(code) is cause


def events() -> st.SearchStrategy[AnyEvent]:
    number = st.floats(allow_nan=False, allow_infinity=False)
    step = st.integers(0, 10**9)
    time = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    kinds: dict[str, dict[str, st.SearchStrategy]] = {
        "phase": {"phase": st.sampled_from(["compiling", "training"]), "step": step},
        "step": {"step": step, "loss": number, "learning_rate": number, "grad_norm": number, "tokens": step}
        | {"tokens_per_second": number, "step_seconds": number},
        "eval": {"step": step, "loss": number, "perplexity": number, "tokens": step, "seconds": number}
        | {"name": st.sampled_from(["eval", "wiki"]), "main": st.booleans(), "bits_per_byte": st.none() | number},
        "checkpoint": {"action": st.sampled_from(["committed", "corrupt"]), "step": step, "path": st.text()},
        "log": {"message": st.text()},
        "effective": {"settings": st.dictionaries(st.text(), st.integers())},
        "sample": {"step": step, "prompt": st.text(), "text": st.text()},
        "finished": {"cause": st.sampled_from([cause.value for cause in Cause]), "step": step, "message": st.text()},
    }
    documents: st.SearchStrategy[dict] = st.one_of(
        [st.fixed_dictionaries({"kind": st.just(kind), "time": time} | own) for kind, own in kinds.items()]
    )
    return documents.map(TypeAdapter(AnyEvent).validate_python)


@given(st.lists(events(), max_size=5), st.integers(1, 9), st.integers(1, 9))
def test_a_report_survives_its_json(entries: list[AnyEvent], attempt: int, seq: int):
    report = Report(attempt=attempt, seq=seq, sent_at=NOW, events=entries)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_report_from_a_newer_trainer_is_read():
    report = Report.model_validate({"attempt": 1, "seq": 1, "sent_at": NOW, "events": [], "weather": "fine"})
    assert report.process == 0


@pytest.mark.parametrize(
    "change", [{"attempt": 0}, {"seq": 0}, {"process": -1}, {"events": [{"kind": "gossip", "time": NOW}]}]
)
def test_a_malformed_report_is_refused(change: dict[str, object]):
    with pytest.raises(ValidationError):
        Report.model_validate({"attempt": 1, "seq": 1, "sent_at": NOW, "events": []} | change)


def test_a_report_has_a_limit():
    with pytest.raises(ValidationError):
        Report(attempt=1, seq=1, sent_at=NOW, events=[LogEvent(time=NOW, message="x")] * (MAX_EVENTS + 1))


PATHS = st.text("abc/._ ", min_size=1).map(lambda text: Path("/") / text)
OPTIONAL_TEXT = st.none() | st.text(st.characters(codec="ascii", categories=["L", "P"]), min_size=1)


@given(
    st.builds(
        TrainerEnvironment,
        resolved=PATHS,
        output=PATHS,
        job_id=OPTIONAL_TEXT,
        attempt=st.integers(1, 1000),
        reports_url=OPTIONAL_TEXT,
        reports_token_file=st.none() | PATHS,
        metrics_port=st.none() | st.integers(0, 65535),
    )
)
def test_the_environment_survives_being_written(environment: TrainerEnvironment):
    assert TrainerEnvironment.read(environment.write()) == environment


@pytest.mark.parametrize("missing", [RESOLVED, OUTPUT])
def test_a_missing_variable_is_named(missing: str):
    given_ = TrainerEnvironment(Path("/job/resolved.json"), Path("/out")).write()
    del given_[missing]
    with pytest.raises(ValueError, match=missing):
        TrainerEnvironment.read(given_)


def test_a_malformed_number_is_named():
    with pytest.raises(ValueError, match="VISHWAMAI_ATTEMPT='first'"):
        TrainerEnvironment.read({RESOLVED: "r", OUTPUT: "o", "VISHWAMAI_ATTEMPT": "first"})
