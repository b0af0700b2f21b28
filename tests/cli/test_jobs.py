"""Starting, listing and stopping jobs from the command line."""

import json

import pytest

from tests.client import bodies
from vishwamai.contract.api import JobList, Validation

VALIDATION = Validation(
    resolved=bodies.RESOLVED, decisions=bodies.RESOLVED.decisions, warnings=bodies.RESOLVED.warnings
)


def test_submit_sends_the_config_and_shows_decisions_and_warnings(plane, run, config):
    there = plane({"POST /jobs": (201, bodies.job())})
    result = run("submit", config('{"training": {"max_steps": 5}}'), at=there)
    assert result.exit_code == 0
    assert there.bodies("POST /jobs") == [{"training": {"max_steps": 5}}]
    assert "optimization.use_fp8" in result.stdout
    assert "FP8 gains nothing on v5e." in result.stdout
    assert "warning: Warm-up is short. [/training/warmup_steps]" in result.stdout
    assert "job j1 (running)" in result.stdout


def test_set_reaches_the_server_as_json_or_text_and_makes_sections(plane, run, config):
    there = plane({"POST /jobs": (201, bodies.job())})
    settings = [
        "training.max_steps=7",
        "run.labels.team=nlp",
        'data.train=["a.txt"]',
        "run.notes=true story",
        "tpu.spot=true",
    ]
    arguments = [word for setting in settings for word in ("--set", setting)]
    result = run(
        "submit",
        config('{"training": {"max_steps": 5, "batch_size": 2}, "tpu": null}'),
        *arguments,
        "--name",
        "7",
        at=there,
    )
    assert result.exit_code == 0
    assert there.bodies("POST /jobs") == [
        {
            "training": {"max_steps": 7, "batch_size": 2},
            "tpu": {"spot": True},
            "run": {"labels": {"team": "nlp"}, "notes": "true story", "name": "7"},
            "data": {"train": ["a.txt"]},
        }
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.max_steps", "write it as section.field=value"),
        ("training..max_steps=1", "is not a path"),
        ("=1", "is not a path"),
        ("training.max_steps.x=1", "training.max_steps is not a section: it holds 5"),
        ('training={"max_steps": 1, "max_steps": 2}', "is given twice"),
        ("training.learning_rate=NaN", "NaN is not a JSON number"),
        ("training.learning_rate=1e999", "1e999 is larger than any double-precision number"),
    ],
)
def test_a_bad_set_is_an_error_before_anything_is_sent(plane, run, config, setting, message):
    there = plane({})
    result = run("submit", config('{"training": {"max_steps": 5}}'), "--set", setting, at=there)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[1].startswith(f"--set {setting}: ")
    assert message in result.stderr
    assert there.requests == []


@pytest.mark.parametrize("value", ["[" * 60_000, "9" * 5000, '{"a": "\\ud800"}'])
def test_a_set_that_no_parser_likes_is_said_in_one_line(run, config, value):
    result = run("validate", config("{}"), "--set", f"run.notes={value}")
    assert result.exit_code == 2
    _, line = result.stderr.splitlines()
    assert line.startswith("--set run.notes=")
    assert len(line) < 300


def test_stdin_is_a_file_too(plane, run):
    there = plane({"POST /jobs": (201, bodies.job())})
    assert run("submit", "-", at=there, stdin='{"run": {"name": "é"}}').exit_code == 0
    assert there.bodies("POST /jobs") == [{"run": {"name": "é"}}]


def test_errors_of_a_config_point_to_file_and_line_or_to_the_set(plane, run, config):
    errors = [
        {"pointer": "/model/hiden_dim", "message": "hiden_dim is not known", "hint": "did you mean hidden_dim?"},
        {"pointer": "/training/max_steps", "message": "max_steps is -1", "accepted": "a whole number >= 1"},
        {"pointer": "/trainin", "message": "trainin is not known", "hint": "did you mean training?"},
        {"pointer": "/data/train/1", "message": "an empty name"},
    ]
    problem = {"title": "Invalid config", "status": 422, "detail": "4 things are wrong", "errors": errors}
    there = plane({"POST /jobs": (422, problem)})
    text = '{\n  "model": {\n    "hiden_dim": 64\n  },\n  "data": {"train": ["a",\n    ""]}\n}\n'
    path = config(text)
    result = run("submit", path, "--set", "training.max_steps=-1", "--set", "trainin.x=1", at=there)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == "error: Invalid config: 4 things are wrong"
    assert lines[1] == f"/model/hiden_dim ({path}:3): hiden_dim is not known"
    assert lines[2] == "  hint: did you mean hidden_dim?"
    assert lines[3] == "/training/max_steps (--set training.max_steps=-1): max_steps is -1"
    assert lines[4] == "  accepted: a whole number >= 1"
    assert lines[5] == "/trainin (--set trainin.x=1): trainin is not known"
    assert lines[7] == f"/data/train/1 ({path}:6): an empty name"


def test_text_that_is_no_json_names_the_file_line_and_column(plane, run, config):
    there = plane({})
    path = config('{\n  "training": {"max_steps": 5,}\n}')
    result = run("submit", path, at=there)
    assert result.exit_code == 2
    assert f"{path}: line 2, column" in result.stderr
    assert there.requests == []


def test_a_missing_file(run):
    result = run("submit", "nowhere.json")
    assert result.exit_code == 3
    assert "nowhere.json: No such file or directory" in result.stderr


def test_dry_run_asks_the_server_and_starts_nothing(plane, run, config):
    there = plane({"POST /jobs": VALIDATION})
    result = run("submit", config("{}"), "--dry-run", at=there)
    assert result.exit_code == 0
    assert there.queries("POST /jobs") == [{"validate_only": ["true"]}]
    assert "nothing was started" in result.stderr
    assert "job" not in result.stdout.split("setting")[0]


@pytest.mark.parametrize(
    ("arguments", "line", "body"),
    [
        (["submit", "-"], "POST /jobs", bodies.job()),
        (["submit", "-", "--dry-run"], "POST /jobs", VALIDATION),
        (["get", "j1"], "GET /jobs/j1", bodies.job()),
        (["list"], "GET /jobs", JobList(jobs=[bodies.job()])),
        (["cancel", "j1"], "POST /jobs/j1:cancel", bodies.job()),
        (["retry", "j1"], "POST /jobs/j1:retry", bodies.job()),
    ],
)
def test_json_output_is_the_body_verbatim_and_nothing_else(plane, run, arguments, line, body):
    text = body.model_dump_json(indent=1).replace("{\n", '{\n "of_the_future": [1,  2],\n', 1)
    there = plane({line: text})
    result = run(*arguments, "-o", "json", at=there, stdin="{}")
    assert result.exit_code == 0
    assert result.stdout == text + "\n"


def test_list_shows_one_line_a_job_and_the_next_page(plane, run):
    jobs = [bodies.job(id="j2", name="second"), bodies.succeeded()]
    there = plane({"GET /jobs": JobList(jobs=jobs, next_cursor="c9")})
    result = run("list", "--state", "running", "--label", "a=b", "-n", "2", at=there)
    heading, second, first = result.stdout.splitlines()
    assert heading.split()[:4] == ["id", "name", "state", "step"]
    assert second.split()[:5] == ["j2", "second", "running", "10/100", "3.2500"]
    assert first.split()[:5] == ["j1", "tiny", "succeeded", "100/100", "1.5000"]
    assert there.queries("GET /jobs") == [{"state": ["running"], "label": ["a=b"], "limit": ["2"]}]
    assert "--cursor c9" in result.stderr


def test_cancel_and_retry_send_their_options(plane, run):
    there = plane({"POST /jobs/j1:cancel": bodies.job(), "POST /jobs/j1:retry": bodies.job()})
    assert run("cancel", "j1", at=there).exit_code == 0
    assert run("cancel", "j1", "--no-save", at=there).exit_code == 0
    assert run("retry", "j1", "--from-step", "40", at=there).stdout == "j1 running: Training.\n"
    assert there.queries("POST /jobs/j1:cancel") == [{"save": ["true"]}, {"save": ["false"]}]
    assert there.bodies("POST /jobs/j1:retry") == [{"from_step": 40}]


def test_get_shows_the_job(plane, run):
    there = plane({"GET /jobs/j1": bodies.failed()})
    result = run("get", "j1", at=there)
    assert result.exit_code == 0
    assert "The loss became NaN at step 11." in result.stdout
    assert "non_finite" in result.stdout
    assert json.dumps(None) not in result.stdout
    assert "runs/j1" in result.stdout


def test_an_error_about_something_else_than_a_config_names_no_config(plane, run):
    wrong = {"pointer": "/from_step", "message": "no committed checkpoint of step 7"}
    problem = {"title": "Unknown checkpoint", "status": 404, "detail": "there are 5 and 6", "errors": [wrong]}
    result = run("retry", "j1", "--from-step", "7", at=plane({"POST /jobs/j1:retry": (404, problem)}))
    assert result.exit_code == 3
    assert result.stderr.splitlines()[1] == "/from_step: no committed checkpoint of step 7"


def test_an_ended_job_is_in_no_phase(plane, run):
    progress = bodies.job().progress.model_copy(update={"phase": "finishing"})
    running, ended = bodies.job(progress=progress), bodies.succeeded(progress=progress)
    assert "finishing" in run("get", "j1", at=plane({"GET /jobs/j1": running})).stdout
    assert "finishing" not in run("get", "j1", at=plane({"GET /jobs/j1": ended})).stdout
