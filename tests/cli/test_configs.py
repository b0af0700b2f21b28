"""Configs without a control plane: checked, explained, converted."""

import json

import pytest

from vishwamai.contract.api import Validation
from vishwamai.contract.load import check_config
from vishwamai.contract.reference import FieldFacts, fields

OLD = '{"model": {"emb_size": 64, "use_rotary": true, "heads": 3}, "training": {"train_steps": 5}}'


def test_validate_shows_decisions_and_warnings(run, config):
    result = run("validate", config("{}"), "--set", "training.warmup_steps=1")
    assert result.exit_code == 0
    assert "optimization.use_fp8" in result.stdout
    assert "warning: " in result.stdout
    assert result.stderr.strip() == "valid"


def test_validate_on_this_machine_and_as_json(run, config):
    result = run("validate", config("{}"), "--platform", "cpu", "-o", "json")
    assert Validation.model_validate_json(result.stdout).resolved.hardware.platform == "cpu"
    assert result.stderr == ""


def test_validate_says_everything_wrong_at_once_with_lines(run, config):
    path = config('{\n"model": {"hiden_dim": 64},\n"training": {"max_steps": "8",\n"batch_size": true}\n}')
    result = run("validate", path, "--set", "tpu.tpu_cores=0")
    assert result.exit_code == 2
    assert result.stdout == ""
    for place in (
        "/model/hiden_dim",
        f"({path}:2)",
        "/training/max_steps",
        f"({path}:3)",
        f"({path}:4)",
        "(--set tpu.tpu_cores=0)",
    ):
        assert place in result.stderr
    assert "did you mean hidden_dim?" in result.stderr


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_decisions_are_readable_at_any_width(run, config, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run("validate", config("{}")).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    start = next(n for n, line in enumerate(lines) if line.startswith("optimization.use_fp8"))
    assert "false" in " ".join(lines[start : start + 3])
    whole = " ".join(" ".join(lines[start : start + 9]).split())
    assert "computed in bfloat16" in whole


def test_what_would_be_accepted_is_said_once(run, config):
    result = run("validate", config('{"model": {"a": 1, "b": 2}, "training": {"max_steps": "x"}}'))
    assert result.stderr.count("accepted: one of family") == 1
    assert result.stderr.count("a whole number >= 1") == 1


def test_a_config_of_the_old_code_is_sent_to_convert(run, config):
    assert "vishwamai convert" in run("validate", config(OLD)).stderr


def test_explain_says_what_it_means_its_default_and_range(run):
    result = run("explain", "training.batch_size")
    assert result.exit_code == 0
    assert "Sequences per device in one forward pass." in result.stdout
    assert "default   8" in result.stdout
    assert ">= 1" in result.stdout
    assert run("explain", "batch_size").stdout == result.stdout


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("training.batchsize", "training.batch_size"),
        ("hiden_dim", "model.hidden_dim"),
        ("emb_size", "model.hidden_dim"),
    ],
)
def test_explain_knows_what_was_meant(run, name, meant):
    result = run("explain", name)
    assert result.exit_code == 3
    assert meant in result.stderr
    assert result.stdout == ""


def test_explain_lists_sections_and_everything(run):
    assert "training.optimizer.beta1" in run("explain", "training.optimizer").stdout
    whole = run("explain").stdout
    assert all(one.name in whole for one in fields())
    assert FieldFacts.model_validate(json.loads(run("explain", "-o", "json").stdout)[0]) == fields()[0]


def test_convert_writes_a_valid_config_and_accounts_for_every_name(run, config, tmp_path):
    new = tmp_path / "new.json"
    result = run("convert", config(OLD), "-o", str(new))
    assert result.exit_code == 0
    assert result.stdout == ""
    written = json.loads(new.read_text())
    check_config(written)
    assert written == {"model": {"hidden_dim": 64}, "training": {"max_steps": 5}}
    for name, outcome in {
        "model.emb_size": "renamed",
        "model.use_rotary": "same meaning",
        "model.heads": "not supported",
    }.items():
        (row,) = [line for line in result.stderr.splitlines() if line.startswith(name)]
        assert outcome in row


def test_convert_to_stdout_is_the_config_alone(run, config):
    assert json.loads(run("convert", config(OLD)).stdout)["training"] == {"max_steps": 5}


def test_convert_as_json_has_the_notes(run, config):
    result = run("convert", config(OLD), "-o", "json")
    conversion = json.loads(result.stdout)
    names = [note["name"] for note in conversion["notes"]]
    assert names == ["model.emb_size", "model.use_rotary", "model.heads", "training.train_steps"]
    assert result.stderr == ""


def test_convert_does_not_write_over_a_file_unasked(run, config, tmp_path):
    new = tmp_path / "new.json"
    new.write_text("precious")
    assert run("convert", config(OLD), "-o", str(new)).exit_code == 2
    assert new.read_text() == "precious"
    assert run("convert", config(OLD), "-o", str(new), "--force").exit_code == 0
    assert json.loads(new.read_text())
