import json

from service.examples import examples
from vishwamai.cli.exits import ExitCode

PLAN = examples()["Plan"]


def test_a_plan_is_shown_and_one_that_does_not_fit_is_no_success(plane, run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"training": {"batch_size": 4}}')
    there = plane({"POST /plans": PLAN})
    result = run("plan", str(file), "--slice", "v5e:2x4", at=there)
    assert result.exit_code == ExitCode.JOB_FAILED
    assert "v5e:2x4, 8 devices as data 8" in result.stdout
    assert "too much" in result.stdout
    assert "saves 1.2 GiB" in result.stdout
    assert there.queries("POST /plans") == [{"slice": ["v5e:2x4"]}]
    assert there.bodies("POST /plans") == [{"training": {"batch_size": 4}}]


def test_one_that_fits_goes_out_as_it_came(plane, run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    text = json.dumps(PLAN | {"fits": True})
    result = run("plan", str(file), "-o", "json", at=plane({"POST /plans": text}))
    assert (result.exit_code, result.stdout) == (0, text + "\n")


def test_a_slice_that_is_none_is_said(plane, run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    body = {"title": "Plan refused", "status": 422, "detail": "--slice v9:2x4: no such accelerator"}
    result = run("plan", str(file), "--slice", "v9:2x4", at=plane({"POST /plans": (422, json.dumps(body))}))
    assert result.exit_code == ExitCode.INVALID
    assert "no such accelerator" in result.stderr
