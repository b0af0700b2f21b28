from typing import Any

import pytest


def names(answer):
    assert answer.status_code == 200, answer.text
    return [job["name"] for job in answer.json()["jobs"]]


@pytest.fixture
def three(plane):
    """Jobs a, b and c, of which a has failed."""
    ids = {
        name: plane.begin(run={"name": name, "labels": labels, "tags": tags, "notes": notes})
        for name, labels, tags, notes in [
            ("a", {"team": "red"}, ["nightly"], "50% of the corpus"),
            ("b", {"team": "red", "kind": "try"}, [], ""),
            ("c", {"team": "blue"}, [], "Second TRY"),
        ]
    }
    assert plane.exit(ids["a"], 2)["state"] == "failed"
    return ids


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "cba"),
    ({"state": "failed"}, "a"),
    ({"state": ["starting", "failed"]}, "cba"),
    ({"state": "queued"}, ""),
    ({"label": "team=red"}, "ba"),
    ({"label": ["team=red", "kind=try"]}, "b"),
    ({"label": ["team=red", "team=blue"]}, ""),
    ({"label": "team="}, ""),
    ({"name": "b"}, "b"),
    ({"accelerator": "v3"}, ""),
    ({"text": "try"}, "cb"),
    ({"text": "team=blue"}, "c"),
    ({"text": "NIGHTLY"}, "a"),
    ({"text": "50% of"}, "a"),
    ({"text": "5%of"}, ""),
    ({"created_before": "2020-01-01T00:00:00Z"}, ""),
    ({"created_after": "2020-01-01T00:00:00Z", "state": "failed"}, "a"),
]


def test_filters(plane, three):
    found = [(query, "".join(names(plane.client.get("/jobs", params=query)))) for query, _ in FILTERS]
    assert found == FILTERS


def test_pages_are_not_disturbed_by_jobs_submitted_meanwhile(plane, three):
    first = plane.client.get("/jobs", params={"limit": 2})
    plane.submit(run={"name": "d"})
    cursor = first.json()["next_cursor"]
    second = plane.client.get("/jobs", params={"limit": 2, "cursor": cursor})
    assert names(first) + names(second) == ["c", "b", "a"]
    assert second.json()["next_cursor"] is None


def test_a_list_shows_how_far_each_job_is(plane):
    job_id = plane.begin()
    [job] = plane.client.get("/jobs").json()["jobs"]
    assert job.keys() >= {"progress", "reason", "code", "labels"}
    assert "resolved" not in job
    assert job["id"] == job_id


WRONG: list[dict[str, Any]] = [
    {"state": "nonsense"},
    {"stat": "failed"},
    {"limit": 0},
    {"limit": "many"},
    {"label": "no-equals-sign"},
    {"created_after": "yesterday"},
    {"created_after": "2026"},
    {"created_after": "2020-01-01T00:00:00"},
]


def test_a_wrong_parameter_is_named(idle_plane):
    for query in WRONG:
        answer = idle_plane.client.get("/jobs", params=query)
        assert answer.status_code == 422, query
        [error] = answer.json()["errors"]
        assert next(iter(query)) in error["message"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_a_time_beyond_the_calendar_is_refused(idle_plane, time):
    answer = idle_plane.client.get("/jobs", params={"created_after": time})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unstorable-value")
