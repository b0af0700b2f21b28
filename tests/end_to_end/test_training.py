"""A job from POST to a trained model, over HTTP, with the real trainer."""

import json
import math

import pytest

STEPS = 60


def test_a_config_becomes_a_trained_model(plane, config):
    job = plane.submit(
        config(
            training={"max_steps": STEPS},
            logging={"eval_every": 30, "save_every": 20},
            run={"name": "a small model", "labels": {"team": "e2e"}},
        )
    )
    end = job.await_end()
    assert (end["state"], end["code"], end["name"]) == ("succeeded", "completed", "a small model")

    states = [event["data"]["state"] for event in job.seen if event["kind"] == "state"]
    assert [state for n, state in enumerate(states) if state not in states[:n]] == [
        "queued",
        "starting",
        "running",
        "succeeded",
    ]
    assert [condition["state"] for condition in end["conditions"]][-1] == "succeeded"
    phases = [event["data"]["phase"] for event in job.seen if event["kind"] == "phase"]
    assert phases.index("compiling") < phases.index("training") < phases.index("finishing")

    [attempt] = end["attempts"]
    assert (attempt["first_step"], attempt["last_step"], attempt["exit_codes"]) == (1, STEPS, {"0": 0})
    assert end["progress"]["step"] == STEPS
    assert end["progress"]["fraction"] == 1.0
    assert end["effective"]

    series = {s["name"]: s for s in job.get("/metrics")["series"]}
    loss = series["loss"]
    assert loss["steps"] == [1, *range(5, STEPS + 1, 5)]
    assert loss["values"][0] == pytest.approx(math.log(258), rel=0.05)
    assert loss["values"][-1] < 0.8 * loss["values"][0]
    assert series["eval_loss"]["steps"] == [30, 60]

    checkpoints = job.get("/checkpoints")["checkpoints"]
    assert [c["step"] for c in checkpoints] == [60, 40, 20]
    assert end["last_checkpoint"]["step"] == 60
    assert (job.folder / "checkpoints" / "60").is_dir()

    assert end["sample"] is not None
    assert any(event["kind"] == "sample" for event in job.seen)
    assert (job.folder / "resolved.json").exists()
    written = (job.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(written[-1])["step"] == STEPS

    request = {"prompts": ["def ", ""], "max_new_tokens": 8, "temperature": 0, "step": 40}
    answer = job.plane.http.post(f"/jobs/{job.id}:generate", json=request, timeout=300)
    assert answer.status_code == 200, answer.text
    assert answer.json()["step"] == 40
    assert [(one["prompt_tokens"], one["new_tokens"] <= 8) for one in answer.json()["texts"]] == [(4, True), (1, True)]

    streamed = stream(job)
    assert [event["id"] for event in streamed] == [event["id"] for event in job.seen]
    middle = streamed[len(streamed) // 2]["id"]
    assert [event["id"] for event in stream(job, after=middle)] == [e["id"] for e in streamed if e["id"] > middle]


def stream(job, after=None):
    """The job's events as server-sent events; the stream ends with the job."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(after)} if after else {})
    events = []
    with job.plane.http.stream("GET", f"/jobs/{job.id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line.removeprefix("data:")))
    return events


def test_a_missing_data_file_fails_the_job_with_the_trainers_message(plane, config):
    job = plane.submit(config(data={"train": ["/no/such/corpus.txt"]}, training={"max_steps": STEPS}))
    end = job.await_end()
    assert (end["state"], end["code"]) == ("failed", "user_error")
    assert "/no/such/corpus.txt" in end["reason"]
    [attempt] = end["attempts"]
    assert (attempt["cause"], attempt["exit_codes"]) == ("user_error", {"0": 2})
