"""Runs and their checkpoints as Hugging Face folders: which one, found how, and no more read than needed."""

import shutil

import jax
import numpy as np
import pytest

from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.jobs import tiny_job
from trainer.checkpoints import Checkpoints
from trainer.cli import main
from trainer.huggingface import load_params, read_source
from trainer.mesh import make_mesh
from trainer.resume import kept
from trainer.step import state_from_params
from vishwamai.contract.config import CheckpointSection


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The output folder of a run with checkpoints of steps 1 and 2, and the weights of each."""
    output = tmp_path_factory.mktemp("run") / "output"
    output.mkdir()
    source = read_source(FOLDER / "llama")
    job = tiny_job(model=source.model.model_dump(exclude_none=True) | {"max_seq_len": 32})
    (output / "resolved.json").write_text(job.model_dump_json())
    params = load_params(source)
    weights = {1: params, 2: jax.tree.map(lambda x: x * 2, params)}
    mesh = make_mesh(job)
    checkpoints = Checkpoints(output / "checkpoints", CheckpointSection(), lambda _: None)
    for step, params in weights.items():
        checkpoints.save(state_from_params(job, mesh, params), step, kept(job, step, {}, {}))
    checkpoints.close()
    return output, weights


def exported(source, to, *options):
    assert main(["export", "--from", str(source), "--to", str(to), *options], {}) == 0
    return load_params(read_source(to))


@pytest.mark.parametrize(
    ("source", "options", "step"),
    [
        (".", (), 2),
        (".", ("--step", "1"), 1),
        ("checkpoints", (), 2),
        ("checkpoints/1", (), 1),
        ("checkpoints/1", ("--step", "1"), 1),
    ],
)
def test_any_of_its_checkpoints(run, tmp_path, capsys, source, options, step):
    output, weights = run
    jax.tree.map(np.testing.assert_array_equal, exported(output / source, tmp_path / "out", *options), weights[step])
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: step {step}\n"
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_checkpoints_alone_know_what_they_are_of(run, tmp_path):
    output, weights = run
    shutil.copytree(output / "checkpoints", tmp_path / "elsewhere")
    found = exported(tmp_path / "elsewhere" / "1", tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, found, weights[1])


def test_arrays_of_the_optimizer_are_not_read(run, tmp_path, monkeypatch):
    """Restoring asks for as many arrays as there are weights."""
    from orbax.checkpoint.type_handlers import ArrayHandler

    asked: list[str] = []
    deserialize = ArrayHandler.deserialize

    async def count(self, infos, args=None):
        asked.extend(info.name for info in infos)
        return await deserialize(self, infos, args)

    monkeypatch.setattr(ArrayHandler, "deserialize", count)
    output, weights = run
    exported(output, tmp_path / "out")
    assert len(asked) == len(jax.tree.leaves(weights[1]))
    assert all(name.startswith("params.") for name in asked)


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("checkpoints/1", ("--step", "2"), "is the checkpoint of step 1, and --step asks for 2"),
        (".", ("--step", "7"), "no checkpoint of step 7 in"),
    ],
)
def test_a_step_that_is_not_there(run, tmp_path, capsys, source, options, said):
    assert main(["export", "--from", str(run[0] / source), "--to", str(tmp_path / "out"), *options], {}) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_folder_has_no_steps(tmp_path, capsys):
    given = ["export", "--from", str(FOLDER / "llama"), "--to", str(tmp_path / "out"), "--step", "1"]
    assert main(given, {}) == 2
    assert "--step is for runs" in capsys.readouterr().err
