"""`python -m trainer plan` before it compiles: slices, configs written for others, what is missing."""

import importlib.util
import json
from pathlib import Path

import pytest

from trainer.cli import main
from trainer.errors import UserError
from trainer.plan.command import choose_slice, settle
from trainer.plan.topology import prepare_compiler
from vishwamai.contract.problems import InvalidConfig

V5P = {"tpu": {"accelerator": "v5p", "tpu_topology": "2x2x2", "tpu_cores": 8, "mesh_shape": {"data": 8}}}


def test_a_config_of_another_slice_is_moved():
    document = choose_slice(V5P, "v6e:4x4")
    assert document["tpu"] == {"accelerator": "v6e", "tpu_topology": "4x4"}
    subject = settle(document, V5P)
    assert (subject.slice.generation.name, subject.slice.topology, subject.job.mesh.devices) == ("v6e", "4x4", 16)
    changed = {decision.setting: decision.effective for decision in subject.decisions}
    assert changed["tpu.mesh_shape"] == {"data": 16, "fsdp": 1, "sequence": 1, "model": 1}
    assert changed["tpu.tpu_cores"] == 16
    assert V5P["tpu"]["tpu_cores"] == 8


def test_the_mesh_of_another_slice_follows_the_strategy():
    own = {"tpu": {**V5P["tpu"], "device_strategy": "fsdp"}}
    assert settle(choose_slice(own, "v5e:2x4"), own).job.mesh.fsdp == 8


@pytest.mark.parametrize("asked", [None, "v5p:2x2x2", "tpu-v5p-slice:2x2x2"])
def test_its_own_slice_changes_nothing(asked: str | None):
    document = choose_slice(V5P, asked)
    assert document == V5P
    assert document is not V5P
    assert settle(document, V5P).decisions == []


def test_a_config_that_fits_nowhere_is_planned_elsewhere():
    own = {"tpu": {"accelerator": "v5p", "tpu_cores": 7}}
    subject = settle(choose_slice(own, "v5e:2x4"), own)
    assert subject.job.mesh.devices == 8
    assert {decision.setting.partition(".")[0] for decision in subject.decisions} == {"tpu", "hardware"}


def test_several_slices_are_of_machines_that_join():
    own = {"tpu": {"num_slices": 2}}
    subject = settle(choose_slice(own, "v5e:2x4"), own)
    assert subject.job.mesh.devices == 16
    assert subject.slice.machine.chips == 4


@pytest.mark.parametrize("asked", ["v5e", "v5e:", ":2x4", "v5e:2xfour", "v5e:0x4"])
def test_a_slice_that_is_none_is_explained(asked: str):
    with pytest.raises(UserError, match="such as"):
        choose_slice({}, asked)


@pytest.mark.parametrize(("asked", "words"), [("v9:2x4", "no TPU generation"), ("v5e:3x3", "no slice of v5e")])
def test_an_unknown_slice_has_the_contracts_words(asked: str, words: str):
    with pytest.raises(InvalidConfig, match=words):
        choose_slice({}, asked)


def test_the_command_answers_bad_slices_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(V5P))
    assert main(["plan", "--config", str(config), "--slice", "v9:2x4"], {}) == 2
    assert "v9" in capsys.readouterr().err


def test_without_the_compiler_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(V5P))
    environ: dict[str, str] = {}
    assert main(["plan", "--config", str(config)], environ) == 2
    assert "pip install 'vishwamai[trainer,plan]'" in capsys.readouterr().err
    assert environ == {}


def test_the_compilers_environment_keeps_what_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    environ = {"LIBTPU_INIT_ARGS": "--xla_other=1", "TF_CPP_MIN_LOG_LEVEL": "0"}
    prepare_compiler(environ, tmp_path)
    assert environ["LIBTPU_INIT_ARGS"].startswith(f"--xla_other=1 --xla_jf_dump_to={tmp_path} ")
    assert environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert environ["JAX_PLATFORMS"] == "cpu"
