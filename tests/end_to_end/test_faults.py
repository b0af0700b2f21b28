"""The service and its trainers are killed, stopped and lied to; the jobs' records end right.

Jobs that are only interrupted would train for days, so that no machine is quick enough to finish before the fault.
"""

import signal

import pytest

FOREVER = {"max_steps": 1_000_000, "lr_schedule": "constant"}


def cancel_now(job):
    job.post("cancel", save=False)
    assert job.await_end()["state"] == "cancelled"


def test_the_service_is_killed_right_after_accepting_a_job_and_again_while_it_trains(plane, config):
    job = plane.submit(config(training={"max_steps": 400}, logging={"save_every": 200}))
    plane.kill()
    plane.start()
    job.await_event("phase", phase="training")
    plane.kill()
    plane.start()
    end = job.await_end()
    assert (end["state"], end["progress"]["step"]) == ("succeeded", 400)
    [attempt] = end["attempts"]
    assert attempt["last_step"] == 400
    [loss] = job.get("/metrics", names="loss")["series"]
    assert loss["steps"] == [1, *range(5, 401, 5)]  # nothing that happened meanwhile is missing
    assert end["last_checkpoint"]["step"] == 400
    assert any("the control plane does not answer" in line["message"] for line in job.get("/logs")["lines"])


def test_a_killed_trainer_resumes_from_the_last_committed_checkpoint(plane, config):
    job = plane.submit(config(training=FOREVER))
    job.await_event("checkpoint", action="committed")
    job.signal_trainer(1, signal.SIGKILL)
    ended = job.await_event("attempt", cause="host_error")
    assert ended["data"]["exit_codes"] == {"0": -9}
    restored = job.await_event("checkpoint", action="restored")
    committed = [e["data"]["step"] for e in job.seen if e["data"].get("action") == "committed" and e["attempt"] == 1]
    assert restored["attempt"] == 2
    # A commit in the instant of the kill may not have been told.
    assert restored["data"]["step"] >= max(committed)
    assert restored["data"]["step"] % 25 == 0
    assert job.await_step(restored["data"]["step"] + 5)

    late = job.report(1, 1_000_000, {"kind": "log", "time": "2026-11-23T12:00:00Z", "message": "from the dead"})
    assert (late.status_code, late.headers["content-type"]) == (409, "application/problem+json")
    twice = job.report(2, 1, {"kind": "log", "time": "2026-11-23T12:00:00Z", "message": "said before"})
    assert twice.status_code == 200
    assert twice.json()["accepted"] is False
    assert not [line for line in job.get("/logs")["lines"] if line["message"] in {"from the dead", "said before"}]

    cancel_now(job)
    first, second = job.get("/attempts")["attempts"]
    assert first["lost_steps"] == max(0, first["last_step"] - second["resumed_from"])
    account = job.get()["goodput"]
    assert account["lost_steps"] == first["lost_steps"]
    assert sum(account["seconds"].values()) == pytest.approx(account["wall_seconds"])
    assert 0 < account["productive_seconds"] <= account["seconds"]["step"] < account["wall_seconds"]
    assert account["seconds"]["between"] > 0.5  # the back-off of a counted restart is a second
    assert (first["cause"], second["resumed_from"]) == ("host_error", restored["data"]["step"])
    assert second["first_step"] == restored["data"]["step"] + 1
    assert job.get()["restarts_left"] == 2


def test_a_preempted_trainer_saves_and_resumes_at_the_same_step(plane, config):
    job = plane.submit(config(training=FOREVER, logging={"save_every": 0}, run={"max_restarts": 0}))
    job.await_step(5)
    job.signal_trainer(1, signal.SIGTERM)
    saved = job.await_event("checkpoint", action="committed")
    ended = job.await_event("attempt", cause="preempted")
    assert ended["data"]["exit_codes"] == {"0": 73}
    restored = job.await_event("checkpoint", action="restored")
    assert restored["data"]["step"] == saved["data"]["step"] > 5
    job.await_step(saved["data"]["step"])
    cancel_now(job)
    first, second = job.get("/attempts")["attempts"]
    assert second["first_step"] == saved["data"]["step"] + 1 == second["resumed_from"] + 1
    assert first["last_step"] <= saved["data"]["step"]


def test_a_checkpoint_is_saved_when_asked_for_and_training_goes_on(plane, config):
    job = plane.submit(config(training=FOREVER, logging={"save_every": 0}))
    asked_at = job.await_step(5)
    job.post("save")
    saved = job.await_event("checkpoint", action="committed")["data"]["step"]
    assert saved >= asked_at
    job.await_step(saved + 5)
    cancel_now(job)
    assert [one["step"] for one in job.get("/checkpoints")["checkpoints"]] == [saved]


def test_cancelling_saves_and_a_retry_goes_on_from_the_checkpoint_chosen(plane, config):
    job = plane.submit(config(training=FOREVER, checkpoint={"keep_last": 100}))
    chosen = job.await_event("checkpoint", action="committed")["data"]["step"]
    job.await_step(chosen)
    job.post("cancel")
    end = job.await_end()
    assert (end["state"], end["attempts"][0]["cause"]) == ("cancelled", "cancelled")
    assert end["attempts"][0]["exit_codes"] == {"0": 75}
    last = end["last_checkpoint"]["step"]
    assert last >= end["progress"]["step"] > chosen

    assert job.post("retry", {"from_step": chosen})["state"] == "queued"
    restored = job.await_event("checkpoint", action="restored")
    assert (restored["data"]["step"], restored["attempt"]) == (chosen, 2)
    job.await_step(chosen)
    cancel_now(job)
    assert [attempt["cause"] for attempt in job.get("/attempts")["attempts"]] == ["cancelled", "cancelled"]
