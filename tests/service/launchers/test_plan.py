import asyncio
import json
import os
import sys

import pytest

from service.examples import examples
from service.launchers.base import PlanFailed, PlanRefused
from service.launchers.local import LocalLauncher

FAKE = """
import json, os, pathlib, sys
config = json.load(sys.stdin)
pathlib.Path(os.environ["HOME"], "heard.json").write_text(json.dumps([config, sys.argv[1:], dict(os.environ)]))
if config == "refuse":
    print("error: --slice v9:2x4: no such accelerator", file=sys.stderr)
    sys.exit(2)
if config == "crash":
    sys.exit("ValueError: no idea")
print(open(os.environ["HOME"] + "/plan.json").read())
sys.exit(70 if config == "large" else 0)
"""


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "plan.json").write_text(json.dumps(examples()["Plan"]))
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "VISHWAMAI_DATABASE_URL": "secret"}
    launcher = LocalLauncher(
        tmp_path, "http://127.0.0.1:1", python=sys.executable, plan=(str(tmp_path / "fake.py"),), environ=environ
    )
    return lambda config, on=None, teachers={}: asyncio.run(launcher.plan(json.dumps(config).encode(), on, teachers))


@pytest.mark.parametrize("config", ["small", "large"])
def test_a_plan_is_an_answer_whether_it_fits_or_not(plan, config):
    assert plan(config).advice == examples()["Plan"]["advice"]


def test_the_config_the_slice_and_the_teachers_reach_the_process_and_secrets_do_not(plan, tmp_path):
    plan({"run": {"name": "x"}}, "v5e:2x4", {"gemma-7b": "/models/g"})
    config, options, environ = json.loads((tmp_path / "heard.json").read_text())
    assert config == {"run": {"name": "x"}}
    assert options == ["--config=-", "--output=json", "--slice=v5e:2x4"]
    assert environ["VISHWAMAI_TEACHERS"] == "gemma-7b=/models/g"
    assert "VISHWAMAI_DATABASE_URL" not in environ


@pytest.mark.parametrize(
    ("config", "error", "words"), [("refuse", PlanRefused, "^--slice"), ("crash", PlanFailed, "no idea")]
)
def test_an_end_without_an_answer_is_told(plan, config, error, words):
    with pytest.raises(error, match=words):
        plan(config)
