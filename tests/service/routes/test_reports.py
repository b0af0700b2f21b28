import pytest

from tests.service.plane import checkpoint, evaluation, finished, line, phase, stamp, step


def receipt(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_first_step_makes_the_job_run(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, phase("compiling")))
    compiling = plane.get(job_id)
    assert (compiling["state"], compiling["code"]) == ("starting", "compiling")
    receipt(plane.report(job_id, phase("training"), step(1), seq=2))
    job = plane.get(job_id)
    assert (job["state"], job["code"]) == ("running", "training")
    states = [condition["state"] for condition in job["conditions"]]
    assert list(dict.fromkeys(states)) == ["queued", "starting", "running"]


def test_reports_become_progress(plane):
    job_id = plane.begin()
    effective = {"kind": "effective", "time": stamp(), "settings": {"devices": 8}}
    sample = {"kind": "sample", "time": stamp(), "step": 50, "prompt": "def", "text": " main():"}
    receipt(plane.report(job_id, effective, phase("training"), step(50, 2.5), evaluation(50, 2.75), sample))
    job = plane.get(job_id)
    progress = job["progress"]
    assert (progress["step"], progress["loss"], progress["eval_loss"]) == (50, 2.5, 2.75)
    assert progress["fraction"] == 0.25
    assert progress["eta_seconds"] == 150 * 0.25
    assert progress["phase"] == "training"
    assert job["effective"] == {"devices": 8}
    assert job["sample"] == " main():"
    assert (job["attempts"][0]["first_step"], job["attempts"][0]["last_step"]) == (1, 50)


def test_a_job_that_caches_its_teacher_runs_and_makes_progress(plane):
    job_id = plane.begin()
    for number, step_number in enumerate((0, 50, 100), start=1):
        receipt(plane.report(job_id, phase("caching", step_number), seq=number))
    job = plane.get(job_id)
    assert (job["state"], job["code"], job["reason"]) == ("running", "caching", "Attempt 1 is caching its teacher.")
    assert (job["progress"]["phase"], job["progress"]["fraction"]) == ("caching", 0.5)
    assert (job["attempts"][0]["first_step"], job["attempts"][0]["last_step"]) == (1, 100)
    told = [event["message"] for event in plane.client.get(f"/jobs/{job_id}/events").json()["events"]]
    assert told.count("Caching at step 0.") == 1
    assert "Caching at step 50." not in told


def test_a_step_whose_loss_is_no_number_is_progress_all_the_same(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, step(1, 3.0), step(2, None, grad_norm=None, finite=False)))
    progress = plane.get(job_id)["progress"]
    assert (progress["step"], progress["loss"]) == (2, None)
    series = {one["name"]: one["steps"] for one in plane.client.get(f"/jobs/{job_id}/metrics").json()["series"]}
    assert (series["loss"], series["grad_norm"], series["learning_rate"]) == ([1], [1], [1, 2])
    receipt(plane.report(job_id, step(3, 2.5), seq=2))
    assert plane.get(job_id)["progress"]["loss"] == 2.5


def test_a_report_sent_twice_is_stored_once(plane):
    job_id = plane.begin()
    for accepted in (True, False):
        answer = receipt(plane.report(job_id, step(1), line("hello"), checkpoint(1), seq=1))
        assert (answer["accepted"], answer["seq"]) == (accepted, 1)
    assert len(plane.client.get(f"/jobs/{job_id}/logs").json()["lines"]) == 1
    kinds = [event["kind"] for event in plane.client.get(f"/jobs/{job_id}/events").json()["events"]]
    assert kinds.count("checkpoint") == 1


def test_numbers_may_leave_gaps_and_never_go_back(plane):
    job_id = plane.begin()
    assert receipt(plane.report(job_id, line("five"), seq=5))["accepted"]
    late = receipt(plane.report(job_id, line("four"), seq=4))
    assert (late["accepted"], late["seq"]) == (False, 5)
    assert receipt(plane.report(job_id, line("other process"), seq=1, process=1))["accepted"]


def test_an_old_attempt_is_fenced_off(plane):
    job_id = plane.begin()
    plane.exit(job_id, 73)
    assert plane.launched(job_id) == 2
    answer = plane.report(job_id, step(7), seq=9, attempt=1)
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/fenced-attempt"
    assert "attempt 2" in answer.json()["detail"]
    assert plane.report(job_id, step(7), attempt=3).status_code == 409
    assert receipt(plane.report(job_id, step(7), attempt=2))["accepted"]
    assert [point for one in series(plane, job_id) for point in one["steps"]] == [7]


def series(plane, job_id):
    return plane.client.get(f"/jobs/{job_id}/metrics?names=loss").json()["series"]


def test_an_attempt_that_resumed_supersedes_what_came_after_its_checkpoint(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, step(10, 4.0), checkpoint(10), step(20, 3.0), step(30, 2.0), evaluation(30, 9.0)))
    plane.exit(job_id, 73)
    assert plane.launched(job_id) == 2
    assert series(plane, job_id)[0]["steps"] == [10, 20, 30]  # nothing has replaced them yet
    receipt(plane.report(job_id, checkpoint(10, "restored"), phase("training", 10), step(20, 3.5), attempt=2))
    [loss] = series(plane, job_id)
    assert (loss["steps"], loss["values"]) == ([10, 20], [4.0, 3.5])
    [evals] = plane.client.get(f"/jobs/{job_id}/metrics?names=eval_loss").json()["series"]
    assert evals["steps"] == []
    first, second = plane.client.get(f"/jobs/{job_id}/attempts").json()["attempts"]
    assert (first["last_step"], first["cause"], first["exit_codes"]) == (30, "preempted", {"0": 73})
    assert (second["resumed_from"], second["first_step"]) == (10, 11)
    assert plane.get(job_id)["progress"]["step"] == 20


def test_checkpoints_come_and_go(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, *(checkpoint(number) for number in (10, 20, 30)), checkpoint(10, "deleted")))
    receipt(plane.report(job_id, checkpoint(30, "corrupt"), checkpoint(40, "failed"), seq=2))
    found = plane.client.get(f"/jobs/{job_id}/checkpoints").json()["checkpoints"]
    assert [one["step"] for one in found] == [20]
    assert plane.get(job_id)["last_checkpoint"]["path"] == "/c/20"


def test_what_a_trainer_that_died_could_not_tell_of_its_checkpoints_the_next_one_does(plane):
    """It had deleted 10 and committed 30, and logged no step after 25."""
    job_id = plane.begin()
    receipt(plane.report(job_id, step(10), checkpoint(10), checkpoint(20), step(25)))
    plane.exit(job_id, 73)
    assert plane.launched(job_id) == 2
    restored = checkpoint(30, "restored", committed=[20, 30], size_bytes=7)
    receipt(plane.report(job_id, restored, phase("training", 30), attempt=2))
    found = plane.client.get(f"/jobs/{job_id}/checkpoints").json()["checkpoints"]
    assert [(one["step"], one["attempt"], one["size_bytes"]) for one in found] == [(30, 2, 7), (20, 1, None)]


def test_a_step_that_is_saved_was_trained_though_it_was_not_logged(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, phase("training"), step(10), checkpoint(14)))
    [attempt] = plane.client.get(f"/jobs/{job_id}/attempts").json()["attempts"]
    assert attempt["last_step"] == 14


@pytest.mark.parametrize(
    ("query", "save"), [("", True), ("?save=true", True), ("?save=false", False)], ids=["default", "save", "at once"]
)
def test_the_answer_tells_the_trainer_to_stop(plane, query, save):
    job_id = plane.begin()
    assert receipt(plane.report(job_id, step(1)))["directive"] == "continue"
    assert plane.client.post(f"/jobs/{job_id}:cancel{query}").status_code == 200
    answer = receipt(plane.report(job_id, step(2), seq=2))
    assert (answer["directive"], answer["save"]) == ("stop", save)
    assert receipt(plane.report(job_id, step(2), seq=2))["directive"] == "stop"  # a repeat hears it as well


def test_a_report_after_the_end_is_kept_and_answered_with_stop(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, step(1), finished("completed", 1)))
    assert plane.exit(job_id, 0)["state"] == "succeeded"
    answer = receipt(plane.report(job_id, line("last words"), phase("training"), seq=2))
    assert (answer["accepted"], answer["directive"]) == (True, "stop")
    assert plane.get(job_id)["state"] == "succeeded"
    assert plane.client.get(f"/jobs/{job_id}/logs").json()["lines"][-1]["message"] == "last words"


def test_the_trainers_own_word_explains_the_end(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, step(1), finished("non_finite", 1)))
    job = plane.exit(job_id, 71)
    assert (job["state"], job["code"], job["restarts_left"]) == ("failed", "non_finite", 1)
    assert job["attempts"][0]["message"] == "It is non_finite."
    assert job["ended_at"] is not None


def test_credentials(plane):
    job_id, other = plane.begin(), plane.begin()
    missing = plane.client.post(f"/jobs/{job_id}/reports", json={})
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")
    foreign = plane.report(job_id, step(1), token=plane.app.state.credentials.token_for(other))
    assert foreign.status_code == 403
    assert plane.report(job_id, step(1), token="0" * 64).status_code == 403
    assert plane.report("unknown", step(1)).status_code == 404
    assert plane.get(job_id)["progress"]["step"] == 0


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        ({"kind": "step", "time": stamp(), "step": 1}, "/events/0/step/loss"),
        (step(1) | {"loss": "much"}, "/events/0/step/loss"),
        ({"kind": "surprise"}, "/events/0"),
        (line("x") | {"time": "2026-11-23T12:00:00"}, "/events/0/time"),
        (step(2**63), "/events/0/step/step"),
        (phase("training", -1), "/events/0/phase/step"),
    ],
)
def test_a_malformed_report_names_the_place(plane, event, pointer):
    job_id = plane.begin()
    answer = plane.report(job_id, event)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("strange", [{"time": "0001-01-01T00:00:00+23:00"}, {"text": "half a \ud800"}])
def test_what_no_database_can_hold_is_refused(plane, strange):
    job_id = plane.begin()
    sample = {"kind": "sample", "time": stamp(), "step": 1, "prompt": "", "text": "x"}
    answer = plane.report(job_id, step(1), sample | strange)
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unstorable-value")
    assert plane.get(job_id)["progress"]["step"] == 0  # nothing of the report was kept
    assert receipt(plane.report(job_id, step(1), sample))["accepted"]


def test_a_trainers_words_become_sentences(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, phase("compiling") | {"message": "compiling the training step"}))
    assert plane.get(job_id)["reason"] == "Compiling the training step."
    receipt(plane.report(job_id, finished("user_error", 0) | {"message": "data.train: no file"}, seq=2))
    job = plane.exit(job_id, 2)
    assert job["reason"] == job["attempts"][0]["message"] == "data.train: no file."


def test_only_phases_that_are_news_go_into_the_history(plane):
    job_id = plane.begin()
    going_on = [phase(name, 10) for name in ("evaluating", "training", "saving", "training", "saving")]
    receipt(plane.report(job_id, phase("compiling"), phase("training") | {"message": "compiled"}, step(10), *going_on))
    assert plane.get(job_id)["progress"]["phase"] == "saving"
    receipt(plane.report(job_id, *going_on, phase("finishing", 10), seq=2))
    events = plane.client.get(f"/jobs/{job_id}/events").json()["events"]
    told = [event["data"]["phase"] for event in events if event["kind"] == "phase"]
    assert told == ["compiling", "training", "finishing"]


def test_a_run_that_ended_early_and_well_is_done(plane):
    job_id = plane.begin()
    receipt(plane.report(job_id, step(50), finished("completed", 50)))
    progress = plane.exit(job_id, 0)["progress"]
    assert (progress["step"], progress["max_steps"], progress["fraction"]) == (50, 200, 1.0)


def test_reports_are_counted_by_what_became_of_them(plane):
    job_id = plane.begin()
    for attempt, seq in ((1, 1), (1, 1), (2, 1)):
        plane.report(job_id, step(1), attempt=attempt, seq=seq)
    plane.report(job_id, step(1), token="wrong")
    text = plane.client.get("/metrics").text
    for outcome in ("accepted", "duplicate", "fenced", "rejected"):
        assert f'vishwamai_reports_total{{outcome="{outcome}"}} 1.0' in text
    assert 'vishwamai_jobs{state="running"} 1.0' in text
    assert 'route="/jobs/{job_id}/reports",status="409"' in text


def test_where_the_time_went_is_the_jobs_account(plane):
    job_id = plane.begin()
    assert plane.get(job_id)["goodput"] is None
    seconds = {"init": 1.0, "compile": 2.0, "step": 6.0, "eval": 1.0}
    account = {"kind": "goodput", "time": stamp(), "step": 57, "wall_seconds": 10.0, "seconds": seconds}
    receipt(plane.report(job_id, phase("training", 0), step(50), account))
    job = plane.get(job_id)
    assert job["goodput"]["productive_seconds"] == 6.0
    assert job["goodput"]["seconds"].items() >= seconds.items()
    assert sum(job["goodput"]["seconds"].values()) == pytest.approx(job["goodput"]["wall_seconds"])
    [attempt] = job["attempts"]
    assert (attempt["last_step"], attempt["lost_steps"]) == (57, None)


def test_what_the_trainer_warns_of_is_shown_while_it_holds(plane):
    job_id = plane.begin()
    notice = {"code": "grace-too-short", "pointer": "/run/grace_seconds", "message": "A save takes 40 s."}
    event = {"kind": "notice", "time": stamp(), "notice": notice}
    receipt(plane.report(job_id, event))
    found = [one for one in plane.get(job_id)["warnings"] if one["code"] == "grace-too-short"]
    assert [one["message"] for one in found] == ["A save takes 40 s."]
    receipt(plane.report(job_id, event | {"holds": False}, seq=2))
    assert not [one for one in plane.get(job_id)["warnings"] if one["code"] == "grace-too-short"]
