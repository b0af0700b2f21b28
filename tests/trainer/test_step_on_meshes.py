"""The same job on one device and on meshes of eight: the same losses, and weights that really are split."""

import functools

import jax
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.mesh import make_mesh
from trainer.step import abstract_state, init_state, make_eval_step, make_train_step, put_batch, state_shardings

STEPS = 10
BASE = {"model": {"dropout_rate": 0.1, "num_kv_heads": 2}, "training": {"batch_size": 4, "grad_accum_steps": 2}}
MESHES = {
    "data": ({"data": 8}, {}),
    "data, split weights": ({"data": 8}, {"weight_axes": ["data"], "remat": "full"}),
    "fsdp": ({"fsdp": 8}, {"weight_axes": ["fsdp"]}),
    "data x fsdp x model": ({"data": 2, "fsdp": 2, "model": 2}, {"weight_axes": ["data", "fsdp"]}),
    "data x sequence x model": ({"data": 2, "sequence": 2, "model": 2}, {}),
    "sequence, blockwise": ({"data": 4, "sequence": 2}, {"attention": "blockwise", "attention_block": 12}),
}


def job_on(mesh, execution):
    return tiny_job(**BASE, mesh=mesh, micro_batch=8, execution=execution)


@functools.cache
def one_device():
    """First and last state, the losses and gradient norms of every step, and the evaluation loss, on one device."""
    job = job_on({}, {})
    first = jax.device_get(init_state(job, make_mesh(job)))
    return first, *run(job, first)


def run(job, first):
    mesh = make_mesh(job)
    state = jax.tree.map(jax.device_put, first, state_shardings(job, mesh))
    step = make_train_step(job, mesh)
    history = []
    for i in range(STEPS):
        state, metrics = step(state, put_batch(random_batch(job, i), mesh))
        history.append((metrics.loss, metrics.grad_norm, metrics.tokens))
    held_out = put_batch(random_batch(job, 99, sequences=8), mesh)
    return jax.device_get((history, make_eval_step(job, mesh)(state.params, held_out), state))


@pytest.mark.parametrize(("mesh", "execution"), MESHES.values(), ids=MESHES.keys())
def test_trains_as_on_one_device(mesh, execution):
    first, history, held_out, last = one_device()
    on_mesh = run(job_on(mesh, execution), first)
    # Devices add the same float32 terms in another order; ten updates carry that along.
    np.testing.assert_allclose(on_mesh[0], history, rtol=2e-5)
    np.testing.assert_allclose(on_mesh[1], held_out, rtol=2e-5)
    # Adam turns rounding noise into steps where a gradient nearly vanishes, hence a share of ten steps of 3e-3.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=5e-4), on_mesh[2].params, last.params)


def test_a_mesh_starts_from_the_very_same_weights():
    job = job_on({"data": 2, "fsdp": 2, "model": 2}, {"weight_axes": ["data", "fsdp"]})
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(init_state(job, make_mesh(job))), one_device()[0])


@pytest.mark.parametrize(
    ("mesh", "weight_axes", "parts"),
    [({"data": 8}, ["data"], 8), ({"data": 2, "fsdp": 2, "model": 2}, ["data", "fsdp"], 8), ({"data": 8}, [], 1)],
    ids=["data", "three ways", "whole"],
)
def test_each_device_holds_its_part_of_weights_and_moments(mesh, weight_axes, parts):
    job = job_on(mesh, {"weight_axes": weight_axes})
    meshed = make_mesh(job)
    state = jax.tree.map(jax.device_put, one_device()[0], state_shardings(job, meshed))
    state, _ = make_train_step(job, meshed)(state, put_batch(random_batch(job), meshed)) if parts == 8 else (state, None)

    def held(tree):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim > 1 and leaf.shape[-2:] != (2, 32)]
        assert leaves
        return {leaf.nbytes // leaf.addressable_shards[0].data.nbytes for leaf in leaves}

    assert held(state.params) == {parts}
    assert held(state.opt_state) == {parts}
    jax.tree.map(
        lambda leaf, shape: leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim) or pytest.fail(f"{shape}"),
        state,
        abstract_state(job, meshed),
    )
