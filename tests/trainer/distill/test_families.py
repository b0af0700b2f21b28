"""A teacher of every family: what the step makes of it is what another implementation says of the same folder."""

import numpy as np
import pytest

from tests.trainer.distill.teachers import student_of, taught_sums
from tests.trainer.huggingface.checkpoints import CONFIGS, random_tensors, write_checkpoint
from tests.trainer.huggingface.reference import forward
from trainer.batch import Batch
from trainer.distill.load import load_teacher
from trainer.mesh import make_mesh
from trainer.step import init_state
from vishwamai.contract.config.model import Family

NAMES: dict[Family, str] = {
    "llama": "llama32",
    "mistral": "mistral_windows",
    "qwen2": "qwen2_windows",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_capped",
}
WORDS = 258
STUDENT = {"vocab_size": WORDS, "hidden_dim": 8, "num_layers": 1, "num_heads": 1, "head_dim": 8, "mlp_dim": 8}


@pytest.mark.parametrize("family", NAMES)
def test_a_teacher_of_this_family(family, tmp_path):
    config = CONFIGS[NAMES[family]] | {
        "num_hidden_layers": 2,
        "vocab_size": WORDS,
    }  # two: where kinds alternate, one of each
    tensors = random_tensors(config)
    folder = write_checkpoint(tmp_path / "teacher", config, tensors)
    length = 16
    job = student_of(
        folder,
        section={"alpha": 1.0, "teacher_dtype": "float32"},
        model=STUDENT | {"max_seq_len": length},
        sequence={"max_length": length},
        training={"batch_size": 2},
    )
    assert job.teacher is not None
    assert job.teacher.model.family == family
    batch = window(length)
    mesh = make_mesh(job)
    sums = taught_sums(job, mesh, init_state(job, mesh).params, batch, load_teacher(job, mesh))
    logits = forward(config, tensors, batch.inputs, batch.segments).logits
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.sum(batch.weights * np.take_along_axis(log_p, batch.targets[..., None], -1)[..., 0])
    np.testing.assert_allclose(sums.parts["teacher_loss"], expected, rtol=1e-5)  # float32 against float64
    assert np.isfinite(sums.loss)
    assert sums.weight == 2 * length


def window(length):
    """Two sequences of one document each."""
    tokens = np.random.default_rng(1).integers(0, WORDS, (2, length + 1), dtype=np.int32)
    whole = np.ones((2, length))
    return Batch(tokens[:, :-1], tokens[:, 1:], whole.astype(np.int32), whole.astype(np.float32))
