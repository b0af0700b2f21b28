"""Reading what a job left behind."""

import json

import pytest

from tests.client import bodies
from vishwamai.contract.api import AttemptList, CheckpointList, EventList, LogPage, MetricsPage, Series

LINES = [bodies.line(1, "starting"), bodies.line(2, "loss [bold]4.2[/bold]"), bodies.line(3, "wrong", level="error")]
SERIES = Series(name="loss", steps=[1, 2, 3], times=[bodies.START] * 3, values=[4.0, 3.0, 3.5])


def test_logs_print_every_line_as_it_is(plane, run):
    there = plane({"GET /jobs/j1/logs": [LogPage(lines=LINES, last_id=3), LogPage(lines=[], last_id=3)]})
    result = run("logs", "j1", "--attempt", "2", "--search", "o", at=there)
    assert [line[9:] for line in result.stdout.splitlines()] == ["starting", "loss [bold]4.2[/bold]", "wrong"]
    assert there.queries("GET /jobs/j1/logs")[0] == {"after": ["0"], "attempt": ["2"], "search": ["o"]}


def test_a_tail_as_json_is_one_object_a_line(plane, run):
    there = plane({"GET /jobs/j1/logs": LogPage(lines=LINES[1:], last_id=3)})
    result = run("logs", "j1", "--tail", "2", "-o", "json", at=there)
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [2, 3]
    assert there.queries("GET /jobs/j1/logs") == [{"tail": ["2"], "limit": ["2"]}]


def test_following_a_log_ends_with_the_job(plane, run):
    pages = [LogPage(lines=LINES[:1], last_id=1), LogPage(lines=LINES[1:], last_id=3), LogPage(lines=[], last_id=3)]
    there = plane({"GET /jobs/j1": [bodies.job(), bodies.succeeded()], "GET /jobs/j1/logs": pages})
    result = run("logs", "j1", "-f", at=there)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    assert [query["after"] for query in there.queries("GET /jobs/j1/logs")] == [["0"], ["1"], ["3"]]


def test_events_are_all_pages_of_the_past(plane, run):
    pages = [EventList(events=[bodies.event(n)], last_id=n) for n in (1, 2)]
    there = plane({"GET /jobs/j1/events": [*pages, EventList(events=[], last_id=2)]})
    result = run("events", "j1", at=there)
    assert [line[9:] for line in result.stdout.splitlines()] == ["eval       event 1", "eval       event 2"]


def test_metrics_in_short_and_as_csv(plane, run):
    there = plane({"GET /jobs/j1/metrics": MetricsPage(job_id="j1", series=[SERIES])})
    heading, row = run("metrics", "j1", "--name", "loss", at=there).stdout.splitlines()
    assert row.split() == ["loss", "3", "4", "3.5", "3", "4", "3"]
    assert heading.startswith("series")
    assert there.queries("GET /jobs/j1/metrics") == [{"names": ["loss"]}]
    there.answers["GET /jobs/j1/metrics"] = "name,step\nloss,1\n"
    assert run("metrics", "j1", "--csv", at=there).stdout == "name,step\nloss,1\n"
    assert there.queries("GET /jobs/j1/metrics")[1] == {"format": ["csv"]}


def test_checkpoints_and_attempts(plane, run):
    there = plane(
        {
            "GET /jobs/j1/checkpoints": CheckpointList(checkpoints=[bodies.checkpoint(40)]),
            "GET /jobs/j1/attempts": AttemptList(attempts=bodies.failed().attempts),
        }
    )
    assert "3.0 MiB" in run("checkpoints", "j1", at=there).stdout
    assert "non_finite" in run("attempts", "j1", at=there).stdout


@pytest.mark.parametrize(
    ("command", "body"),
    [
        ("metrics", MetricsPage(job_id="j1", series=[SERIES])),
        ("checkpoints", CheckpointList(checkpoints=[])),
        ("attempts", AttemptList(attempts=[])),
    ],
)
def test_json_is_the_body_verbatim(plane, run, command, body):
    text = body.model_dump_json(indent=3)
    result = run(command, "j1", "-o", "json", at=plane({f"GET /jobs/j1/{command}": text}))
    assert result.stdout == text + "\n"
