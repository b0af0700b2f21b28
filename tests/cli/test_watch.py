"""Following a job: plain lines in a pipe, a bar on a terminal, outages bridged, and what Ctrl-C leaves alone."""

import io
import re
from typing import Any

import httpx2
import pytest
from rich.console import Console

from tests.cli.plane import Plane
from tests.client import bodies
from tests.client.test_streams import patient
from vishwamai.cli.watch import LiveView, PlainView, follow
from vishwamai.client import Client, Unreachable
from vishwamai.client.connection import Connection
from vishwamai.contract.api import CheckpointList, EventList, Job, JobEvent, Progress
from vishwamai.contract.states import JobState


def at_step(step: int, **changes: Any) -> Job:
    values = {"loss": 4.0 - step / 100, "tokens": step * 256, "tokens_per_second": 1234.0, "eta_seconds": 100.0 - step}
    return bodies.job(progress=Progress.model_validate({"step": step, "max_steps": 100, **values}), **changes)


def page(*events: JobEvent) -> EventList:
    return EventList(events=list(events), last_id=events[-1].id if events else 0)


def a_run() -> dict[str, Any]:
    """A job that starts, trains in four rounds, evaluates, saves and succeeds."""
    queued = bodies.job(state=JobState.QUEUED, code="submitted", reason="Waiting.", progress=Progress(max_steps=100))
    first = bodies.event(1, "state", "Waiting.", state="queued")
    training = bodies.event(2, "state", "Training.", state="running")
    phase = bodies.event(3, "phase", "Evaluating at step 50.", phase="evaluating")
    evaluation = bodies.event(4, "eval", "Evaluation at step 50: loss 3.0000, perplexity 20.09.")
    saved = bodies.event(5, "checkpoint", "Checkpoint of step 100 committed.")
    done = bodies.event(6, "state", "Trained all 100 steps.", state="succeeded")
    return {
        "POST /jobs": (201, queued),
        "GET /jobs/j1": [queued, at_step(1), at_step(1), at_step(50), bodies.succeeded()],
        "GET /jobs/j1/events": [
            page(first),
            page(training),
            page(),
            page(phase, evaluation),
            page(saved, done),
            page(),
        ],
        "GET /jobs/j1/checkpoints": CheckpointList(checkpoints=[bodies.checkpoint(100), bodies.checkpoint(50)]),
    }


def test_piped_it_is_one_plain_line_for_each_change(plane, run):
    result = run("submit", "-", "--watch", at=plane(a_run()), stdin="{}")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    watched = result.stdout.split("job j1 at ")[1].splitlines()[2:]
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in watched]
    assert lines[: lines.index("")] == [
        "state      Waiting.",
        "state      Training.",
        "running step 50/100  loss 3.5000  1.2k tok/s  ETA 50s",
        "eval       Evaluation at step 50: loss 3.0000, perplexity 20.09.",
        "checkpoint Checkpoint of step 100 committed.",
        "state      Trained all 100 steps.",
    ]


def test_the_end_is_summed_up(plane, run):
    result = run("submit", "-", "-w", at=plane(a_run()), stdin="{}")
    ending = result.stdout.partition("Trained all 100 steps.")[2]
    facts = {line.split("  ")[0]: line.strip().split("  ")[-1].strip() for line in ending.splitlines() if "  " in line}
    assert facts["eval loss"] == "2.0000"
    assert facts["perplexity"] == "7.39"
    assert facts["duration"] == "1m 20s"
    assert facts["checkpoints"] == "steps 100, 50"
    assert facts["files"] == "runs/j1"
    assert ending.endswith("def main():\n    pass\n")


def test_with_json_only_the_final_body_is_on_stdout(plane, run):
    result = run("submit", "-", "--watch", "-o", "json", at=plane(a_run()), stdin="{}")
    assert result.exit_code == 0
    assert Job.model_validate_json(result.stdout) == bodies.succeeded()
    assert "Evaluation at step 50" in result.stderr
    assert "optimization.use_fp8" in result.stderr


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_a_bad_end_is_exit_code_1_with_the_reason(plane, run, state):
    answers = a_run() | {"GET /jobs/j1": bodies.failed(state=state), "GET /jobs/j1/events": page()}
    result = run("watch", "j1", at=plane(answers))
    assert result.exit_code == 1
    assert "The loss became NaN at step 11." in result.stdout
    assert ("hint: Lower training.learning_rate" in result.stdout) == (state is JobState.FAILED)


def test_watch_begins_with_the_newest_of_the_past(plane, run):
    past = [bodies.event(number, "eval", f"old {number}.") for number in range(1, 31)]
    answers = a_run() | {"GET /jobs/j1": bodies.succeeded(), "GET /jobs/j1/events": [page(*past), page()]}
    there = plane(answers)
    result = run("watch", "j1", at=there)
    assert "old 20." not in result.stdout
    assert all(result.stdout.count(f"old {number}.\n") == 1 for number in range(21, 31))
    assert there.queries("GET /jobs/j1/events")[1]["after"] == ["30"]


def test_watching_no_job(plane, run):
    assert run("watch", "j9", at=plane({})).exit_code == 3


def client_of(script: list[Any]) -> Client:
    """A client whose every call takes the next answer of the script; exceptions are raised."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        answer = script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(200, text=answer.model_dump_json())

    transport = httpx2.MockTransport(handler)
    return Client(connection=Connection("http://plane.test", transport=transport, attempts=1))


def test_an_outage_is_told_once_and_bridged_without_losing_or_repeating_events():
    gone = httpx2.ConnectError("Connection refused")
    end = bodies.succeeded()
    one, two = bodies.event(1, "eval", "one"), bodies.event(2, "eval", "two")
    client = client_of([at_step(1), page(one), at_step(2), gone, gone, gone, end, page(two), end, page()])
    out = io.StringIO()
    with PlainView(Console(file=out, width=200, markup=False)) as view:
        job = follow(client, "j1", view, patience=patient())
    assert job.state is JobState.SUCCEEDED
    text = out.getvalue()
    assert text.count("one\n") == text.count("two\n") == 1
    assert text.count("http://plane.test does not answer (connection refused)") == 1
    assert text.index("does not answer") < text.index("answers again") < text.index("two")


def test_an_outage_without_end_ends_the_watching():
    client = client_of([at_step(1), page(), *[httpx2.ConnectError("Connection refused")] * 100])
    with PlainView(Console(file=io.StringIO())) as view, pytest.raises(Unreachable):
        follow(client, "j1", view, patience=patient(30.0))


def test_progress_is_not_spam_and_follows_a_restart_back():
    out = io.StringIO()
    with PlainView(Console(file=out, width=200, markup=False)) as view:
        for step in [0, 1, 2, 3, 4, 5, 5, 5, 6, 2, 3, 4]:
            view.progress(at_step(step))
    steps = [line.split()[2] for line in out.getvalue().splitlines()]
    assert steps == ["2/100", "4/100", "6/100", "4/100"]


def test_a_terminal_gets_a_bar_below_what_happened():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=160, markup=False, highlight=False)
    with LiveView(console) as view:
        view.event(bodies.event(1, "eval", "Evaluation at step 50."))
        view.progress(at_step(50))
    text = out.getvalue()
    assert "\x1b[" in text
    assert "Evaluation at step 50." in text
    assert "50/100" in text
    assert "loss 3.5000  1.2k tok/s  ETA 50s" in text


def test_interrupting_leaves_the_job_alone(plane, run, monkeypatch):
    def interrupted(self: PlainView, job: Job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlainView, "progress", interrupted)
    there: Plane = plane(a_run())
    result = run("submit", "-", "--watch", at=there, stdin="{}")
    assert result.exit_code == 130
    assert "the job goes on" in result.stderr
    assert "vishwamai cancel j1" in result.stderr
    assert not [line for line, _, _ in there.requests if ":cancel" in line]
