import csv
import io
import json
import threading

from tests.service.plane import checkpoint, evaluation, finished, line, step


def finish(plane, *events):
    """A job that has succeeded after reporting `events`."""
    job_id = plane.begin()
    assert plane.report(job_id, step(1), *events, finished("completed", 200)).status_code == 200
    assert plane.exit(job_id, 0)["state"] == "succeeded"
    return job_id


def stream(plane, path, **headers):
    """Items of a stream of server-sent events that ends by itself: (id, data)."""
    answer = plane.client.get(path, headers={"Accept": "text/event-stream"} | headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    fields = [dict(one.split(": ", 1) for one in item.splitlines()) for item in answer.text.split("\n\n") if item]
    return [(int(one["id"]), json.loads(one["data"])) for one in fields if "data" in one]


def test_events_tell_the_whole_story_in_order(plane):
    job_id = finish(plane, checkpoint(100), evaluation(100, 2.0))
    page = plane.client.get(f"/jobs/{job_id}/events").json()
    kinds = [event["kind"] for event in page["events"]]
    assert list(dict.fromkeys(kinds)) == ["state", "attempt", "checkpoint", "eval", "finished"]
    assert kinds[-2:] == ["attempt", "state"]
    ids = [event["id"] for event in page["events"]]
    assert ids == sorted(set(ids))
    assert page["last_id"] == ids[-1]
    assert page["events"][-2]["data"]["last_lines"] == ["the end"]
    rest = plane.client.get(f"/jobs/{job_id}/events", params={"after": ids[2], "limit": 2}).json()
    assert [event["id"] for event in rest["events"]] == ids[3:5]


def test_a_stream_resumes_behind_the_last_event_seen(plane):
    job_id = finish(plane, checkpoint(100))
    path = f"/jobs/{job_id}/events"
    events = stream(plane, path)
    assert [data for _, data in events] == plane.client.get(path).json()["events"]
    assert all(number == data["id"] for number, data in events)
    seen = events[2][0]
    assert stream(plane, path, **{"Last-Event-ID": str(seen)}) == events[3:]
    assert stream(plane, f"{path}?after={seen}") == events[3:]
    assert stream(plane, f"{path}?after=0&limit=2") == events
    refused = plane.client.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": "x"})
    assert refused.status_code == 422


def test_a_stream_delivers_what_happens_while_it_is_open(plane):
    job_id = plane.begin()
    found = []
    reader = threading.Thread(target=lambda: found.extend(stream(plane, f"/jobs/{job_id}/events")))
    reader.start()
    plane.report(job_id, step(1), checkpoint(1), finished("completed", 200))
    plane.exit(job_id, 0)
    reader.join(timeout=30)
    assert found[-1][1]["data"]["state"] == "succeeded"
    assert "checkpoint" in [data["kind"] for _, data in found]


def test_a_long_poll_answers_when_something_happens(plane):
    job_id = plane.begin()
    last = plane.client.get(f"/jobs/{job_id}/events").json()["last_id"]
    after_start = plane.client.get(f"/jobs/{job_id}/events", params={"after": last, "wait": 30})  # its process is seen
    last = after_start.json()["last_id"]
    found = []

    def wait():
        found.append(plane.client.get(f"/jobs/{job_id}/events", params={"after": last, "wait": 30}).json())

    reader = threading.Thread(target=wait)
    reader.start()
    plane.report(job_id, checkpoint(1))
    reader.join(timeout=25)
    assert [event["kind"] for event in found[0]["events"]] == ["checkpoint"]


def test_a_long_poll_of_a_job_that_is_over_does_not_wait(plane):
    job_id = finish(plane)
    last = plane.client.get(f"/jobs/{job_id}/events").json()["last_id"]
    answer = plane.client.get(f"/jobs/{job_id}/events", params={"after": last, "wait": 30})
    assert answer.json() == {"events": [], "last_id": last}
    assert answer.elapsed.total_seconds() < 20


def test_logs_are_read_from_either_end_and_searched(plane):
    job_id = plane.begin()
    plane.report(job_id, *(line(f"line {n}") for n in range(1, 51)))
    plane.report(job_id, line("a Warning", "warning"), process=1)
    path = f"/jobs/{job_id}/logs"

    def read(**query):
        page = plane.client.get(path, params=query).json()
        return [one["id"] for one in page["lines"]], page["last_id"]

    assert read() == (list(range(1, 52)), 51)
    assert read(tail=2) == ([50, 51], 51)
    assert read(after=48) == ([49, 50, 51], 51)
    assert read(after=51) == ([], 51)
    assert read(limit=3) == ([1, 2, 3], 3)
    assert read(search="LINE 4") == ([4, *range(40, 50)], 51)
    assert read(search="line", tail=1) == ([50], 51)
    assert read(process=1) == ([51], 51)
    assert read(attempt=2) == ([], 51)
    [last] = plane.client.get(path, params={"tail": 1}).json()["lines"]
    assert (last["level"], last["message"], last["process"], last["attempt"]) == ("warning", "a Warning", 1, 1)


def test_logs_can_be_followed_as_a_stream(plane):
    job_id = finish(plane, *(line(f"line {n}") for n in range(1, 6)))
    path = f"/jobs/{job_id}/logs"
    assert [number for number, _ in stream(plane, path)] == [1, 2, 3, 4, 5]
    assert [number for number, _ in stream(plane, f"{path}?tail=2")] == [4, 5]
    assert [number for number, _ in stream(plane, f"{path}?tail=1", **{"Last-Event-ID": "2"})] == [3, 4, 5]


def test_series_keep_their_peaks_when_made_smaller(plane):
    job_id = plane.begin()
    losses = [5.0 - n / 200 for n in range(400)]
    losses[123], losses[321] = 90.0, -7.0
    plane.report(job_id, *(step(n + 1, loss) for n, loss in enumerate(losses)), evaluation(400, 1.25))
    answer = plane.client.get(f"/jobs/{job_id}/metrics", params={"max_points": 20, "names": "loss,eval_loss"})
    loss, evals = answer.json()["series"]
    assert (loss["name"], evals["name"]) == ("loss", "eval_loss")
    assert len(loss["steps"]) == len(loss["values"]) == len(loss["times"]) <= 20
    assert (max(loss["values"]), min(loss["values"])) == (90.0, -7.0)
    assert (loss["steps"][0], loss["steps"][-1]) == (1, 400)
    assert evals["values"] == [1.25]
    everything = plane.client.get(f"/jobs/{job_id}/metrics").json()["series"]
    names = {series["name"] for series in everything}
    assert names >= {"loss", "grad_norm", "learning_rate", "tokens_per_second", "eval_perplexity"}


def test_each_evaluation_set_has_its_series(plane):
    job_id = plane.begin()
    plane.report(
        job_id,
        evaluation(10, 2.0, name="wiki", bits_per_byte=0.75),
        evaluation(10, 3.0, name="code", main=False),
        evaluation(20, 1.5, name="wiki", bits_per_byte=0.5),
        evaluation(20, 2.5, name="code", main=False),
    )
    series = plane.client.get(f"/jobs/{job_id}/metrics").json()["series"]
    found = {one["name"]: one["values"] for one in series}
    assert (found["eval_wiki_loss"], found["eval_code_loss"]) == ([2.0, 1.5], [3.0, 2.5])
    assert found["eval_wiki_bits_per_byte"] == [0.75, 0.5]
    assert not {"eval_code_bits_per_byte", "eval_loss"} & set(found)
    [one] = plane.client.get(f"/jobs/{job_id}/metrics?names=eval_code_perplexity").json()["series"]
    assert one["values"] == [8.0, 8.0]
    assert plane.client.get(f"/jobs/{job_id}").json()["progress"]["eval_loss"] == 1.5
    messages = [event["message"] for event in plane.client.get(f"/jobs/{job_id}/events").json()["events"]]
    assert "Evaluation on wiki at step 20: loss 1.5000, perplexity 8.00, 0.5000 bits per byte." in messages


def test_a_value_that_is_no_number_is_left_out(plane):
    job_id = plane.begin()
    text = json.dumps(
        {"attempt": 1, "seq": 1, "sent_at": "2026-11-23T12:00:00Z", "events": [step(1, float("nan")), step(2, 3.0)]}
    )
    token = plane.app.state.credentials.token_for(job_id)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = plane.client.post(f"/jobs/{job_id}/reports", content=text, headers=headers)
    assert answer.status_code == 200
    [loss] = plane.client.get(f"/jobs/{job_id}/metrics?names=loss").json()["series"]
    assert (loss["steps"], loss["values"]) == ([2], [3.0])


def test_series_as_csv(plane):
    job_id = plane.begin()
    plane.report(job_id, step(1, 4.0), step(2, 3.0), evaluation(2, 3.5))
    path = f"/jobs/{job_id}/metrics?names=loss&names=eval_loss"
    for answer in (plane.client.get(f"{path}&format=csv"), plane.client.get(path, headers={"Accept": "text/csv"})):
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(row["step"], row["loss"], row["eval_loss"]) for row in rows] == [("1", "4.0", ""), ("2", "3.0", "3.5")]
    assert plane.client.get(f"{path}&format=json", headers={"Accept": "text/csv"}).json()["job_id"] == job_id
