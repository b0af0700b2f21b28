import pytest

from service.launchers.base import Busy, CannotGenerate, ExportFailed, ExportRefused
from tests.service.plane import checkpoint


@pytest.fixture
def trained(plane):
    """A job that trains and has two checkpoints."""
    job_id = plane.begin()
    plane.report(job_id, checkpoint(10), checkpoint(20))
    return job_id


def test_a_committed_checkpoint_is_exported(plane, trained):
    answer = plane.client.post(f"/jobs/{trained}/checkpoints/10:export", json={"dtype": "bfloat16"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["step"], answer.json()["dtype"]) == (10, "bfloat16")
    assert plane.client.post(f"/jobs/{trained}/checkpoints/20:export").json()["dtype"] == "float32"


def test_its_files_are_fetched(plane, trained, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    plane.launcher.exported_files = {"config.json": tmp_path / "config.json"}
    answer = plane.client.get(f"/jobs/{trained}/checkpoints/10/export/config.json")
    assert (answer.status_code, answer.text) == (200, "{}")
    missing = plane.client.get(f"/jobs/{trained}/checkpoints/10/export/model.safetensors?dtype=bfloat16")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/no-export")
    assert missing.json()["detail"] == "no model.safetensors of 10 as bfloat16"
    assert plane.client.get("/jobs/jnone/checkpoints/10/export/config.json").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("{job}/checkpoints/11:export", 422, "unknown-checkpoint"),
        ("{job}/checkpoints/-1:export", 422, "invalid-request"),
        ("{job}/checkpoints/ten:export", 422, "invalid-request"),
        ("jnone/checkpoints/10:export", 404, "unknown-job"),
    ],
)
def test_what_is_not_there_is_named(plane, trained, path, status, kind):
    answer = plane.client.post("/jobs/" + path.format(job=trained))
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")


def test_a_job_without_a_checkpoint(plane):
    answer = plane.client.post(f"/jobs/{plane.begin()}/checkpoints/10:export")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/no-checkpoint")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Busy("one is under way"), 429, "busy"),
        (CannotGenerate("not on a cluster"), 501, "not-on-this-launcher"),
        (ExportRefused("no such family"), 422, "export-refused"),
        (ExportFailed("it crashed"), 500, "export-failed"),
    ],
)
def test_what_the_launcher_says_is_passed_on(plane, trained, fault, status, kind):
    plane.launcher.export_fault = fault
    answer = plane.client.post(f"/jobs/{trained}/checkpoints/10:export")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert answer.json()["detail"] == str(fault)
