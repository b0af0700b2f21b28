"""Teachers whose layers are kept in eight bits: what they answer, where they lie, and how much they weigh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.distill.teachers import student_of, taught_sums
from trainer.distill.kept import abstract_teacher
from trainer.distill.lesson import teacher_job
from trainer.distill.load import fingerprint, load_teacher
from trainer.forward import make_hidden_states
from trainer.mesh import make_mesh
from trainer.precision.weights import eight_bit, in_numbers
from trainer.step import init_state

STUDENT = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8, "mlp_dim": 16, "num_kv_heads": 2}
TRAINING = {"batch_size": 4}
LARGEST = {"int8": 127.5, "float8_e4m3fn": 448.0}
MESHES = {
    "int8": ({"fsdp": 2, "model": 2}, {"weight_axes": ["fsdp"], "weight_gather": "layer"}),
    "float8_e4m3fn": ({"fsdp": 2}, {"weight_axes": ["fsdp"], "weight_gather": "step"}),
}
TOLERANCE = {"int8": 0.02, "float8_e4m3fn": 0.1}
"""Share of the logits' standard deviation. One rounding of weights is off by 0.5% (s / sqrt(12), where s is the largest
of 32 normal numbers over 127) or 2.6%; the fifteen products on the way add up like the root of their number."""


def job_on(teacher, kept, mesh=None, execution=None):
    return student_of(
        teacher,
        section={"teacher_dtype": kept},
        model=STUDENT,
        training=TRAINING,
        micro_batch=8,
        mesh=mesh,
        execution=execution,
    )


def size(params):
    """Bytes."""
    return sum(x.nbytes for x in jax.tree.leaves(params))


def as_numbers(params):
    """What the eight bits stand for, on the host."""
    return jax.device_get(params | {"blocks": in_numbers(params["blocks"], float32s(params["blocks"]))})


def float32s(tree):
    return jax.tree.map(lambda _: jnp.float32, tree, is_leaf=lambda x: hasattr(x, "qvalue"))


@pytest.mark.parametrize("kept", LARGEST)
def test_a_weight_is_off_by_its_channels_scale_at_most(kept):
    random = np.random.default_rng(0)
    w = random.standard_normal((2, 24, 6)) * np.logspace(-4, 4, 6)
    w[1, :, 2], w[0, 5, 3] = 0.0, 1e-30
    found = eight_bit(jnp.asarray(w, jnp.float32), kept)
    assert found.qvalue.dtype == kept
    assert found.scale.shape == (2, 1, 6)
    scale = np.abs(w).max(1, keepdims=True) / LARGEST[kept]
    # Half a step of int8 (of the largest, which its 127 falls short of); three bits after the point in e4m3, or half of
    # its least number, 2^-9. And float32.
    off = 0.51 * scale if kept == "int8" else np.maximum(np.abs(w) / 16, scale * 2**-10)
    assert (np.abs(in_numbers(found, jnp.float32) - w) <= off * 1.00001 + 1e-25).all()


@pytest.mark.parametrize("kept", LARGEST)
def test_it_answers_as_its_rounded_weights_do_on_a_mesh(teacher, kept):
    plain = job_on(teacher, "float32")
    alone = make_mesh(plain)
    exact = load_teacher(plain, alone)
    job = job_on(teacher, kept, *MESHES[kept])
    mesh = make_mesh(job)
    params = load_teacher(job, mesh)

    # A quarter of float32, and here, where channels have 32 or 64 numbers, up to an eighth of that for the scales.
    assert size(params["blocks"]) < 0.3 * size(exact["blocks"])
    assert size(params) - size(params["blocks"]) == size(exact) - size(exact["blocks"])
    query = params["blocks"]["attention"]["query"].qvalue
    assert (query.dtype, query.nbytes) == (kept, exact["blocks"]["attention"]["query"].nbytes // 4)
    assert query.addressable_shards[0].data.nbytes == query.nbytes // (mesh.shape["fsdp"] * mesh.shape["model"])
    (promised,) = abstract_teacher(job, mesh)
    for told, made in zip(jax.tree.leaves(promised), jax.tree.leaves(params), strict=True):
        assert (told.shape, told.dtype, told.sharding) == (made.shape, made.dtype, made.sharding)

    batch = random_batch(plain, 0)
    logits = make_hidden_states(teacher_job(plain), alone)
    expected, found = (np.asarray(logits(w, batch.inputs, batch.segments)[1]) for w in (exact, as_numbers(params)))
    off = np.std(found - expected) / np.std(expected)
    assert 0 < off < TOLERANCE[kept]
    log_p = np.asarray(jax.nn.log_softmax(found))
    loss = -np.sum(batch.weights * np.take_along_axis(log_p, np.asarray(batch.targets)[..., None], -1)[..., 0])
    sums = taught_sums(job, mesh, init_state(job, mesh).params, batch, params)
    np.testing.assert_allclose(sums.parts["teacher_loss"], loss, rtol=1e-5)  # float32 in another order
    assert fingerprint(params) == fingerprint(load_teacher(job_on(teacher, kept), alone))
    assert fingerprint(params) != fingerprint(exact)
