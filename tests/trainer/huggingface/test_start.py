import jax
import numpy as np
import pytest

from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.jobs import tiny_job
from trainer.checkpoints import Checkpoints
from trainer.cli import main
from trainer.errors import UserError
from trainer.huggingface import initial_params, load_params, read_source
from trainer.huggingface.start import differences
from trainer.mesh import make_mesh
from trainer.step import state_from_params
from vishwamai.contract.config import CheckpointSection, ModelSection


def job_from(name, **changes):
    """A small job with the golden's model, which starts from the golden."""
    fields = read_source(FOLDER / name).model.model_dump(exclude_none=True) | {"max_seq_len": 32} | changes
    return tiny_job(model=fields, checkpoint={"init_from": str(FOLDER / name)})


@pytest.mark.parametrize("name", ["gemma", "llama31", "qwen2"])
def test_a_run_starts_from_the_checkpoints_weights(name):
    found, expected = initial_params(job_from(name)), load_params(read_source(FOLDER / name))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_every_difference_is_told_at_once():
    job = job_from("llama31", hidden_dim=32, num_layers=3, rope_theta=1e4, tie_embeddings=True)
    with pytest.raises(UserError) as caught:
        initial_params(job)
    told = str(caught.value)
    assert "model.hidden_dim is 32, and there 64" in told
    assert "model.num_layers is 3, and there 2" in told
    assert "model.rope_theta is 10000.0, and there 500000.0" in told
    assert "model.tie_embeddings is true, and there false" in told
    assert "num_heads" not in told
    assert "max_seq_len" not in told


def test_a_scaling_that_is_missing_is_told():
    fields = read_source(FOLDER / "llama31").model.model_dump(exclude={"rope_scaling"}, exclude_none=True)
    job = tiny_job(model=fields | {"max_seq_len": 32}, checkpoint={"init_from": str(FOLDER / "llama31")})
    with pytest.raises(UserError, match=r"rope_scaling is absent, and there kind llama3, factor 8\.0"):
        initial_params(job)


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        ({}, {}, []),
        ({"num_kv_heads": 12}, {}, []),
        ({"attention_scale": 0.125}, {}, []),
        ({"layer_pattern": ["full", "full"]}, {}, []),
        ({"rope_local_theta": 5.0}, {}, []),
        ({"rope_local_theta": 5.0, "sliding_window": 8}, {"sliding_window": 8}, ["rope_local_theta"]),
        ({"sliding_window": 8}, {"sliding_window": 9}, ["sliding_window"]),
        ({"sliding_window": 8}, {}, ["sliding_window", "layer_pattern"]),
        ({"dropout_rate": 0.3, "max_seq_len": 7, "attention_dropout_rate": 0.1}, {}, []),
        ({"family": "llama"}, {}, []),
        (
            {"rope_scaling": {"kind": "linear", "factor": 2.0}},
            {"rope_scaling": {"kind": "linear", "factor": 2.0, "original_max_seq_len": 5}},
            [],
        ),
        ({"rope_scaling": {"kind": "linear", "factor": 2.0}}, {"rope_scaling": {"factor": 2.0}}, ["rope_scaling"]),
    ],
)
def test_models_differ_as_functions(ours, theirs, names):
    found = differences(ModelSection.model_validate(ours), ModelSection.model_validate(theirs))
    assert [name for name, _, _ in found] == names


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_started_from_a_checkpoint_exports_as_one(kept, tmp_path):
    """Its config.json and tokenizer are passed on while they are there; else a config is written."""
    origin = tmp_path / "origin"
    origin.mkdir()
    for path in (FOLDER / "llama").iterdir():
        (origin / path.name).write_bytes(path.read_bytes())
    job = job_from("llama").model_copy(deep=True)
    checkpoint = job.effective.checkpoint.model_copy(update={"init_from": str(origin)})
    job = job.model_copy(update={"effective": job.effective.model_copy(update={"checkpoint": checkpoint})})
    output = tmp_path / "run"
    output.mkdir()
    (output / "resolved.json").write_text(job.model_dump_json())
    mesh = make_mesh(job)
    checkpoints = Checkpoints(output / "checkpoints", CheckpointSection(), lambda _: None)
    checkpoints.save(state_from_params(job, mesh, initial_params(job)), 1, {})
    checkpoints.wait()
    checkpoints.close()
    if not kept:
        (origin / "config.json").unlink()

    assert main(["export", "--from", str(output), "--to", str(tmp_path / "out")], {}) == 0
    found, expected = read_source(tmp_path / "out"), read_source(FOLDER / "llama")
    jax.tree.map(np.testing.assert_array_equal, load_params(found), load_params(expected))
    assert (found.config == expected.config) == kept
    tokenizer = (tmp_path / "out" / "tokenizer.json").read_bytes()
    assert (tokenizer == (FOLDER / "llama" / "tokenizer.json").read_bytes()) == kept, (
        "else data.tokenizer, which is byte"
    )
    assert differences(found.model, expected.model) == []
    assert found.config["eos_token_id"] == (1 if kept else job.effective.sequence.eos_token_id)


def test_a_run_without_a_checkpoint_has_nothing_to_export(tmp_path, capsys):
    (tmp_path / "resolved.json").write_text(job_from("llama").model_dump_json())
    assert main(["export", "--from", str(tmp_path), "--to", str(tmp_path / "out")], {}) == 2
    assert "holds no checkpoints" in capsys.readouterr().err
