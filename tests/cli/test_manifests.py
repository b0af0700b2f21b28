import json

from vishwamai.cli.exits import ExitCode

YAML = "apiVersion: v1\nkind: ConfigMap\n---\nkind: JobSet\n"


def test_a_config_is_rendered_as_it_came(plane, run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"tpu": {"accelerator": "v5e"}}')
    there = plane({"POST /manifests": YAML})
    result = run("render", str(file), "--set", "tpu.spot=true", at=there)
    assert (result.exit_code, result.stdout) == (0, YAML)
    assert there.bodies("POST /manifests") == [{"tpu": {"accelerator": "v5e", "spot": True}}]


def test_what_is_wrong_with_a_config_is_said_at_its_line(plane, run, tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"tpu": {\n "accelerator": "v9"}}')
    problem = {"pointer": "/tpu/accelerator", "message": "tpu.accelerator is v9, which is no TPU generation"}
    body = {"title": "Invalid config", "status": 422, "detail": "1 error", "errors": [problem]}
    result = run("render", str(file), at=plane({"POST /manifests": (422, json.dumps(body))}))
    assert result.exit_code == ExitCode.INVALID
    assert "no TPU generation" in result.stderr
    assert "config.json:2" in result.stderr


def test_a_jobs_manifest_is_printed(plane, run):
    result = run("manifest", "j1", at=plane({"GET /jobs/j1/manifest": YAML}))
    assert result.stdout == YAML
    assert run("manifest", "j2", at=plane({})).exit_code == ExitCode.NOT_FOUND
