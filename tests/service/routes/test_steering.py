from dataclasses import replace

import pytest

from tests.service.conftest import running
from tests.service.plane import checkpoint, finished, step


@pytest.fixture
def one_at_a_time(settings):
    with running(replace(settings, max_running_jobs=1)) as plane:
        yield plane


def post(plane, job_id, action, **body):
    return plane.client.post(f"/jobs/{job_id}:{action}", **body)


def test_a_job_that_waits_for_its_turn_is_cancelled_here_and_now(one_at_a_time):
    plane = one_at_a_time
    plane.begin()
    waiting = plane.submit()
    answer = post(plane, waiting, "cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    again = post(plane, waiting, "cancel")
    assert (again.status_code, again.json()["updated_at"]) == (200, answer.json()["updated_at"])
    assert plane.get(waiting)["attempts"] == []


def test_a_running_job_is_cancelled_when_its_trainer_has_ended(plane):
    job_id = plane.begin()
    assert post(plane, job_id, "cancel").json()["state"] == "starting"
    plane.report(job_id, step(1), finished("cancelled", 1))
    job = plane.exit(job_id, 75)
    assert (job["state"], job["code"]) == ("cancelled", "cancelled")


def test_asking_twice_changes_nothing_and_at_once_hastens_it(plane):
    job_id = plane.begin()
    for query in ("", "", "?save=false", "?save=true"):
        assert plane.client.post(f"/jobs/{job_id}:cancel{query}").status_code == 200
    events = plane.client.get(f"/jobs/{job_id}/events").json()["events"]
    assert [event["data"]["stop"] for event in events if event["kind"] == "stop"] == ["save", "now"]
    assert plane.report(job_id, step(1)).json()["save"] is False


def test_a_job_that_is_over_cannot_be_cancelled(plane):
    job_id = plane.begin()
    plane.exit(job_id, 0)
    answer = post(plane, job_id, "cancel")
    assert answer.status_code == 409
    assert "succeeded" in answer.json()["detail"]


def test_a_failed_job_is_retried_under_its_id_from_a_checkpoint(plane):
    job_id = plane.begin()
    plane.report(job_id, step(10), checkpoint(10), step(20), checkpoint(20), finished("non_finite", 25))
    assert plane.exit(job_id, 71)["state"] == "failed"
    answer = post(plane, job_id, "retry", json={"from_step": 10})
    assert answer.status_code == 200, answer.text
    assert answer.json()["ended_at"] is None
    launch = plane.launcher.launches.get(timeout=30)
    assert (launch.job_id, launch.attempt) == (job_id, 2)
    assert launch.resolved.effective.checkpoint.restore == 10
    assert plane.report(job_id, step(11), attempt=2).json()["directive"] == "continue"


def test_a_retry_gives_a_new_restart_budget(plane):
    job_id = plane.begin()
    plane.exit(job_id, 1)
    assert plane.launched(job_id) == 2
    failed = plane.exit(job_id, 1, attempt=2)
    assert (failed["state"], failed["restarts_left"]) == ("failed", 0)
    assert post(plane, job_id, "retry").json()["restarts_left"] == 1
    assert plane.launched(job_id) == 3


def test_only_what_failed_or_was_cancelled_can_be_retried(plane):
    busy, done = plane.begin(), plane.begin()
    plane.exit(done, 0)
    for job_id in (busy, done):
        answer = post(plane, job_id, "retry")
        assert answer.status_code == 409
        assert "only a failed or cancelled job" in answer.json()["detail"]


def test_a_retry_says_how_its_body_is_to_be_sent(plane):
    job_id = plane.begin()
    plane.exit(job_id, 2)
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # curl's default
    answer = plane.client.post(f"/jobs/{job_id}:retry", content='{"from_step": 1}', headers=form)
    assert answer.status_code == 422
    assert "application/json" in answer.json()["errors"][0]["hint"]
    answer = plane.client.post(f"/jobs/{job_id}:retry", content=b"\xff", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-request")


def test_a_retry_names_the_checkpoints_there_are(plane):
    job_id = plane.begin()
    plane.report(job_id, checkpoint(10))
    plane.exit(job_id, 2)
    answer = post(plane, job_id, "retry", json={"from_step": 11})
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["pointer"] == "/from_step"
    assert "10" in error["message"]
    assert plane.get(job_id)["state"] == "failed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("POST", ":cancel"),
        ("POST", ":retry"),
        ("GET", "/events"),
        ("GET", "/logs"),
        ("GET", "/metrics"),
        ("GET", "/checkpoints"),
        ("GET", "/attempts"),
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_an_unknown_job_is_not_found(idle_plane, method, path, accept):
    answer = idle_plane.client.request(method, f"/jobs/jnone{path}", headers={"Accept": accept})
    assert answer.status_code == 404
    assert answer.json()["type"] == "/problems/unknown-job"
    assert "jnone" in answer.json()["detail"]


def test_a_checkpoint_asked_for_is_ordered_until_it_is_there(plane):
    job_id = plane.begin()
    plane.report(job_id, step(1))
    for _ in range(2):
        assert post(plane, job_id, "save").status_code == 200
    told = [plane.report(job_id, step(2), seq=seq).json() for seq in (2, 3)]
    assert [(receipt["directive"], receipt["request"]) for receipt in told] == [("save", 1), ("save", 1)]
    assert plane.report(job_id, checkpoint(3), seq=4).json()["directive"] == "continue"
    post(plane, job_id, "save")
    assert plane.report(job_id, seq=5).json()["request"] == 2
    events = plane.client.get(f"/jobs/{job_id}/events").json()["events"]
    assert [event["message"] for event in events if event["kind"] == "save"] == ["Asked to save a checkpoint."] * 2
    post(plane, job_id, "cancel")
    assert plane.report(job_id, seq=6).json()["directive"] == "stop"


def test_only_a_job_that_runs_can_be_asked_for_a_checkpoint(plane):
    job_id = plane.begin()
    plane.exit(job_id, 0)
    answer = post(plane, job_id, "save")
    assert answer.status_code == 409
    assert "only a job that runs can" in answer.json()["detail"]
    assert post(plane, "nobody", "save").status_code == 404
