import pytest

from service.launchers.base import Busy, CannotGenerate, GenerationFailed, GenerationRefused
from tests.service.plane import checkpoint


def generate(plane, job_id, **body):
    return plane.client.post(f"/jobs/{job_id}:generate", json={"prompts": ["a", ""]} | body)


@pytest.fixture
def trained(plane):
    """A job that trains and has two checkpoints."""
    job_id = plane.begin()
    plane.report(job_id, checkpoint(10), checkpoint(20))
    return job_id


def test_a_job_without_a_checkpoint_has_nothing_to_write_with(plane):
    answer = generate(plane, plane.begin())
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/no-checkpoint")
    assert generate(plane, "jnone").status_code == 404


def test_the_newest_checkpoint_writes_unless_another_is_named(plane, trained):
    answer = generate(plane, trained)
    assert answer.status_code == 200, answer.text
    assert answer.json()["step"] == 20
    assert [one["prompt"] for one in answer.json()["texts"]] == ["a", ""]
    assert generate(plane, trained, step=10, kv_cache="bf16").json()["step"] == 10
    plane.exit(trained, 0)
    assert generate(plane, trained).status_code == 200


def test_a_step_that_is_not_there_is_named(plane, trained):
    answer = generate(plane, trained, step=11)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["pointer"] == "/step"
    assert "10" in error["message"]
    assert "20" in error["message"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"prompts": []}, "/prompts"),
        ({"top_p": 0}, "/top_p"),
        ({"temperature": "hot"}, "/temperature"),
        ({"stop": [""]}, "/stop/0"),
        ({"max_tokens": 5}, "/max_tokens"),
    ],
)
def test_wrong_parameters_are_named(plane, trained, body, pointer):
    answer = generate(plane, trained, **body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Busy("one is under way"), 429, "busy"),
        (CannotGenerate("on a cluster nobody generates"), 501, "not-on-this-launcher"),
        (GenerationRefused("too long"), 422, "generation-refused"),
        (GenerationFailed("it crashed"), 500, "generation-failed"),
    ],
)
def test_what_the_launcher_says_is_passed_on(plane, trained, fault, status, kind):
    plane.launcher.generation_fault = fault
    answer = generate(plane, trained)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert answer.json()["detail"] == str(fault)
    assert ("Retry-After" in answer.headers) is (status == 429)
