import re
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.storage import DatabaseError


def test_every_answer_carries_a_request_id(idle_plane):
    client = idle_plane.client
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    for given in ("", "white space", "x" * 65):
        answer = client.get("/healthz", headers={"X-Request-ID": given})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [("GET", "/nothing", 404, "not-found"), ("DELETE", "/jobs", 405, "method-not-allowed")],
)
def test_addresses_that_are_not_there(idle_plane, method, path, status, kind):
    answer = idle_plane.client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"/problems/{kind}"
    assert answer.json()["instance"] == path
    assert answer.headers.get("allow") == ("GET, HEAD, POST" if status == 405 else None)


def test_an_action_takes_no_more_than_post(idle_plane):
    answer = idle_plane.client.get("/jobs/j1:cancel")
    assert answer.status_code == 404
    assert idle_plane.client.delete("/jobs/j1:cancel").headers["allow"] == "POST"


def test_head_is_get_without_a_body(idle_plane):
    answer = idle_plane.client.head("/jobs")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(idle_plane.client.get("/jobs").content))


def test_what_callers_make_up_does_not_grow_the_figures(idle_plane):
    for made_up in ("BREW", "WHEN"):
        assert idle_plane.client.request(made_up, f"/{made_up}").status_code == 404
    families = {
        family.name: family for family in text_string_to_metric_families(idle_plane.client.get("/metrics").text)
    }
    samples = [sample.labels for sample in families["vishwamai_http_requests"].samples]
    assert {"method": "other", "route": "unknown", "status": "404"} in samples
    assert not {"BREW", "WHEN"} & {value for labels in samples for value in labels.values()}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("[::1]:8000", 200),
        ("127.9.9.9", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("10.0.0.1", 403),
        ("[", 403),
    ],
)
def test_only_names_of_this_machine_are_answered(idle_plane, host, status):
    answer = idle_plane.client.get("/version", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["type"] == "/problems/foreign-origin"


def test_pages_of_other_sites_may_change_nothing(idle_plane):
    def post(origin):
        return idle_plane.client.post("/jobs?validate_only=true", content="{}", headers={"Origin": origin}).status_code

    assert post("http://127.0.0.1:8000") == 200
    assert [post(origin) for origin in ("http://evil.example", "null", "http://127.0.0.1:9", "http://[")] == [403] * 4
    assert idle_plane.client.get("/version", headers={"Origin": "http://evil.example"}).status_code == 200


def test_a_failure_inside_shows_no_more_than_its_request_id(idle_plane, monkeypatch):
    def broken(*_):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("service.operations.jobs.find", lambda *_, **__: broken())
    answer = idle_plane.client.get("/jobs")
    assert answer.status_code == 500
    document = answer.json()
    assert document["type"] == "/problems/internal-error"
    assert "secret" not in answer.text
    assert document["request_id"] in document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]


def test_a_database_that_fails_asks_to_try_again(idle_plane, monkeypatch):
    def full(*_):
        raise DatabaseError("disk is full", "disk is full")

    monkeypatch.setattr(idle_plane.app.state.context.store, "find", full)
    monkeypatch.setattr(idle_plane.app.state.context.store, "jobs_by_state", full)
    answer = idle_plane.client.get("/jobs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "(disk is full)" in answer.json()["detail"]
    ready = idle_plane.client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "disk is full")


def test_health_version_and_catalogue(idle_plane):
    client = idle_plane.client
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ok", "checks": {"database": "ok", "reconcile": "ok"}}
    assert client.get("/version").json()["launcher"] == "local"
    assert client.get("/").json()["links"]["jobs"] == "/jobs"
    assert "v5e" in {one["name"] for one in client.get("/accelerators").json()["accelerators"]}
    assert "training" in client.get("/config-schema").json()["properties"]


def test_a_reconcile_loop_that_is_stuck_makes_the_service_unready(idle_plane, monkeypatch):
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(idle_plane.app.state, "last_pass", lambda: long_ago)
    answer = idle_plane.client.get("/readyz")
    assert answer.status_code == 503
    assert "loop" in answer.json()["checks"]["reconcile"]
