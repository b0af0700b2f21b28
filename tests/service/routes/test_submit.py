import json
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from tests.service.plane import CONFIG, FakeLauncher


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def test_a_submitted_job_has_an_address_and_shows_what_will_run(plane):
    answer = plane.client.post("/jobs", json=CONFIG)
    job = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["name"] == "tiny"
    assert job["resolved"]["requested"] == CONFIG
    assert job["decisions"] == job["resolved"]["decisions"] != []
    assert job["progress"] | {"max_steps": 200, "step": 0} == job["progress"]
    assert plane.get(job["id"])["id"] == job["id"]


def test_ids_sort_by_time_and_fit_a_dns_label(plane):
    ids = [plane.submit() for _ in range(5)]
    assert all(len(one) == 18 and one[0] == "j" and one.isalnum() and one.islower() for one in ids)
    assert len(set(ids)) == 5
    assert [one[:10] for one in ids] == sorted(one[:10] for one in ids)


def test_a_job_without_a_name_is_called_by_its_id(plane):
    job = plane.client.post("/jobs", content="{}").json()
    assert job["name"] == job["id"]


def test_the_same_key_and_config_are_the_same_job(plane):
    headers = {"Idempotency-Key": "one"}
    first = plane.client.post("/jobs", json=CONFIG, headers=headers)
    respelt = json.dumps(CONFIG, indent=4, sort_keys=True)
    again = plane.client.post("/jobs", content=respelt, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert len(plane.client.get("/jobs").json()["jobs"]) == 1


def test_the_same_key_with_another_config_is_a_conflict(plane):
    headers = {"Idempotency-Key": "one"}
    first = plane.client.post("/jobs", json=CONFIG, headers=headers).json()
    document = problem(plane.client.post("/jobs", content="{}", headers=headers), 409)
    assert first["id"] in document["detail"]
    assert len(plane.client.get("/jobs").json()["jobs"]) == 1


def test_validation_alone_stores_nothing(idle_plane):
    answer = idle_plane.client.post("/jobs?validate_only=true", json=CONFIG)
    assert answer.status_code == 200
    assert answer.json()["valid"] is True
    assert answer.json()["resolved"]["requested"] == CONFIG
    assert idle_plane.client.get("/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        ('{"training": {"max_steps": 5,}}', "", "line 1"),
        ('{"training": {"lerning_rate": 1}}', "/training/lerning_rate", "learning_rate"),
        ('{"training": {"batch_size": "8"}}', "/training/batch_size", "whole number"),
        ('{"training": {"learning_rate": NaN}}', "/training/learning_rate", "NaN"),
        ('{"training": {"learning_rate": 1e999}}', "/training/learning_rate", "1e999"),
        ('{"model": {"num_heads": 8, "num_kv_heads": 3}}', "/model/num_kv_heads", "num_kv_heads"),
        ("[]", "", "object"),
        ("", "", "empty"),
    ],
)
@pytest.mark.parametrize("query", ["", "?validate_only=true"])
def test_a_wrong_config_is_refused_with_the_place_and_the_reason(idle_plane, text, pointer, words, query):
    document = problem(idle_plane.client.post(f"/jobs{query}", content=text), 422)
    assert document["type"] == "/problems/invalid-config"
    [error] = document["errors"]
    assert error["pointer"] == pointer
    assert words in json.dumps(error)
    assert idle_plane.client.get("/jobs").json()["jobs"] == []


def test_all_that_is_wrong_is_said_at_once(idle_plane):
    text = '{"training": {"batch_size": "8", "max_steps": 0}, "modle": {}}'
    document = problem(idle_plane.client.post("/jobs", content=text), 422)
    assert {error["pointer"] for error in document["errors"]} == {
        "/training/batch_size",
        "/training/max_steps",
        "/modle",
    }


BLOCKED = CONFIG | {"distillation": {"teacher_model": "gs://bucket/teacher"}}


def test_a_config_that_no_trainer_can_run_is_valid_but_not_started(idle_plane):
    validated = idle_plane.client.post("/jobs?validate_only=true", json=BLOCKED)
    assert validated.status_code == 200
    notices = [notice for notice in validated.json()["warnings"] if notice["blocks_launch"]]
    document = problem(idle_plane.client.post("/jobs", json=BLOCKED), 422)
    assert document["type"] == "/problems/blocked-launch"
    assert [error["pointer"] for error in document["errors"]] == [notice["pointer"] for notice in notices] != []
    assert idle_plane.client.get("/jobs").json()["jobs"] == []


def test_a_jobs_id_is_a_teacher(plane):
    taught = plane.client.post("/jobs", json=CONFIG).json()["id"]
    for name, known in ((taught, True), ("j" + 17 * "0", False)):
        body = CONFIG | {"distillation": {"teacher_model": name}}
        answer = plane.client.post("/jobs?validate_only=true", json=body).json()
        assert answer["resolved"]["effective"]["distillation"]["teacher_model"].endswith(f"/{name}") == known
        assert any(notice["code"] == "unknown-teacher" for notice in answer["warnings"]) != known


def test_a_teachers_folder_that_is_not_there_is_refused_at_submission(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = create_app(replace(settings, teachers={"gemma-7b": str(tmp_path / "gemma")}), FakeLauncher())
    with TestClient(app, base_url="http://localhost") as client:
        for name, folder in (("./taught", "taught"), ("gemma-7b", "gemma")):
            body = CONFIG | {"distillation": {"teacher_model": name}}
            (error,) = problem(client.post("/jobs", json=body), 422)["errors"]
            assert error["pointer"] == "/distillation/teacher_model"
            assert f"{folder}' is no folder on this machine" in error["message"]
            notices = client.post("/jobs?validate_only=true", json=body).json()["warnings"]
            assert "teacher-missing" in {notice["code"] for notice in notices}
            (tmp_path / folder).mkdir()
            assert client.post("/jobs", json=body).status_code == 201


def chunks():
    for _ in range(20):
        yield b" " * 100_000


@pytest.mark.parametrize("content", [b"x" * 2_000_000, chunks()], ids=["with length", "chunked"])
def test_a_body_of_two_megabytes_is_too_large(idle_plane, content):
    document = problem(idle_plane.client.post("/jobs", content=content), 413)
    assert "1048576 bytes" in document["detail"]


def test_an_accepted_job_is_there_after_a_restart(settings):
    for expected in (0, 1, 2):
        app = create_app(settings, FakeLauncher())
        with TestClient(app, base_url="http://localhost") as client:
            assert len(client.get("/jobs").json()["jobs"]) == expected
            assert client.post("/jobs", json=CONFIG).status_code == 201
