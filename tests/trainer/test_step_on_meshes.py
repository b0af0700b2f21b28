"""The same job on one device and on meshes of eight: the same losses, and weights that really are split."""

import functools
import math
from typing import Any

import jax
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.mesh import make_mesh
from trainer.step import abstract_state, init_state, make_eval_step, make_train_step, put_batch, state_shardings

STEPS = 20
BASE: dict[str, Any] = {
    "model": {"dropout_rate": 0.1, "attention_dropout_rate": 0.1, "vocab_size": 264, "num_heads": 8, "num_kv_heads": 8},
    "training": {"batch_size": 4, "grad_accum_steps": 2},
}
BY_STEP, BY_LAYER = {"weight_gather": "step"}, {"weight_gather": "layer"}
MESHES: dict[str, tuple[dict[str, int], dict[str, Any]]] = {
    "data 8": ({"data": 8}, {}),
    "data 8, weights split": ({"data": 8}, {"weight_axes": ["data"], **BY_STEP}),
    "fsdp 8": ({"fsdp": 8}, {"weight_axes": ["fsdp"], "remat": "full", **BY_LAYER}),
    "data 4, model 2": ({"data": 4, "model": 2}, {"remat": "attention"}),
    "data 2, model 4": ({"data": 2, "model": 4}, {"remat": "dots"}),
    "model 8": ({"model": 8}, {"scan_layers": False}),
    "data 2, fsdp 2, model 2": ({"data": 2, "fsdp": 2, "model": 2}, {"weight_axes": ["data", "fsdp"], **BY_LAYER}),
    "data 4, sequence 2": ({"data": 4, "sequence": 2}, {"weight_axes": ["data"], **BY_STEP}),
    "data 2, sequence 4": ({"data": 2, "sequence": 4}, {}),
    "data 2, sequence 2, model 2": (
        {"data": 2, "sequence": 2, "model": 2},
        {"weight_axes": ["data"], "attention": "blockwise", "attention_block": 12, **BY_LAYER},
    ),
}


def job_on(mesh, execution):
    return tiny_job(**BASE, mesh=mesh, micro_batch=8, execution=execution)


@functools.cache
def one_device():
    """The first state, and what `run` makes of it on one device."""
    job = job_on({}, {})
    first = jax.device_get(init_state(job, make_mesh(job)))
    return first, *run(job, first)


def run(job, first):
    """Loss, gradient norm and tokens of each step, and the last state."""
    mesh = make_mesh(job)
    state = jax.tree.map(jax.device_put, first, state_shardings(job, mesh))
    step = make_train_step(job, mesh)
    history = []
    for i in range(STEPS):
        state, metrics = step(state, put_batch(random_batch(job, i), mesh))
        history.append((metrics.loss, metrics.grad_norm, metrics.tokens))
    return jax.device_get(history), state


@pytest.mark.parametrize(("mesh", "execution"), MESHES.values(), ids=MESHES.keys())
def test_trains_as_on_one_device(mesh, execution):
    first, history, last = one_device()
    job = job_on(mesh, execution)
    history_on_mesh, last_on_mesh = run(job, first)
    # Devices add the same float32 terms in another order; twenty updates carry that along.
    np.testing.assert_allclose(history_on_mesh, history, rtol=5e-5)
    # Adam turns rounding noise into steps where a gradient nearly vanishes, hence a share of twenty steps of 3e-3.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-3), last_on_mesh.params, last.params)
    assert_split(
        last_on_mesh, job, parts=math.prod(mesh.get(axis, 1) for axis in (*job.execution.weight_axes, "model"))
    )


def assert_split(state, job, parts):
    """Matrices and their moments lie in `parts` parts, norm scales and counters whole, as a restore puts them."""

    def placed(leaf, expected):
        assert leaf.sharding.is_equivalent_to(expected.sharding, leaf.ndim)
        is_matrix = leaf.size > job.effective.model.hidden_dim * job.effective.model.num_layers
        assert leaf.nbytes == leaf.addressable_shards[0].data.nbytes * (parts if is_matrix else 1)

    jax.tree.map(placed, state, abstract_state(job, make_mesh(job)))


def test_evaluates_as_on_one_device():
    sums = []
    for job in (job_on({}, {}), job_on({"data": 2, "sequence": 2, "model": 2}, {})):
        mesh = make_mesh(job)
        params = jax.device_put(one_device()[0].params, state_shardings(job, mesh).params)
        sums.append(make_eval_step(job, mesh)(params, put_batch(random_batch(job, sequences=8), mesh)))
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-5)


def test_a_mesh_starts_from_the_very_same_weights():
    job = job_on({"data": 2, "fsdp": 2, "model": 2}, {"weight_axes": ["data", "fsdp"]})
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(init_state(job, make_mesh(job))), one_device()[0])
