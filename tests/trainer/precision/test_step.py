"""Whole steps in eight bits: near the plain ones, the same whatever is kept, on meshes, and hard to upset."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.generate.passes import Passes
from trainer.gradients import make_gradients
from trainer.mesh import make_mesh
from trainer.step import init_state, make_train_step, put_batch
from vishwamai.contract.resolved import Precision, ResolvedJob

KEY = np.zeros(2, np.uint32)


def job_in(products: str, parts: tuple[str, ...] = ("attention", "mlp"), **how: Any) -> ResolvedJob:
    precision = Precision(
        compute="float32", products=products, products_in=list(parts), scaling="tensor", loss_scale="dynamic"
    )
    return tiny_job(**how).model_copy(update={"precision": precision})


def gradients_of(job, batch=None):
    mesh = make_mesh(job)
    state = init_state(job, mesh)
    batch = put_batch(random_batch(job) if batch is None else batch, mesh)
    sums, found = jax.jit(make_gradients(job, mesh))(state.params, batch, KEY, jnp.float32(1.0))
    return float(sums.loss / sums.weight), np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])


def distance(one, other):
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.fixture(scope="module")
def plain():
    return gradients_of(job_in("compute"))


@pytest.fixture(scope="module")
def in_fp8():
    return gradients_of(job_in("fp8"))


def assert_near(found, plain):
    assert found[0] == pytest.approx(plain[0], rel=2e-3)
    # e5m2 is off by 7% or so, as noise, e4m3 by half of that, in each product on the way back through two layers.
    assert 1e-4 < distance(found[1], plain[1]) < 0.25


def test_loss_and_gradients_are_near_those_of_the_compute_type(in_fp8, plain):
    assert_near(in_fp8, plain)
    assert_near(gradients_of(job_in("int8")), plain)


def test_what_is_kept_changes_nothing(in_fp8):
    found = gradients_of(job_in("fp8", execution={"remat": "dots"}))
    # Rounded alike; float32 sums may be taken in another order, and then a quotient may round to the other side.
    assert distance(found[1], in_fp8[1]) < 1e-2


def test_on_a_mesh_only_the_scales_differ(in_fp8, plain):
    found = gradients_of(job_in("fp8", mesh={"data": 2, "sequence": 2, "model": 2}, micro_batch=8))
    assert_near(found, plain)
    assert distance(found[1], in_fp8[1]) > 1e-4


@pytest.mark.parametrize(("parts", "products"), [(("attention", "mlp"), 6), (("mlp",), 2), (("attention",), 4)])
def test_parts_that_are_skipped_multiply_plain_numbers(parts, products):
    job = job_in("fp8", parts)
    mesh = make_mesh(job)
    batch, state = put_batch(random_batch(job), mesh), init_state(job, mesh)
    text = make_train_step(job, mesh).lower(state, batch).as_text()
    low = [line for line in text.splitlines() if "dot_general" in line and "xf8E4M3FN>" in line]
    # One compiled layer: a product of x and w, and two of dy, each in e5m2.
    assert (len(low), sum("xf8E5M2>" in line for line in low)) == (3 * products, 2 * products)


def losses(job, steps, params=None):
    mesh = make_mesh(job)
    step, state = make_train_step(job, mesh), init_state(job, mesh)
    if params is not None:
        state = state._replace(params=params(state.params))
    batch = put_batch(random_batch(job), mesh)
    found = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        found.append(float(metrics.loss))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state.params)))
    return np.array(found), state.health


def test_an_outlier_zeros_and_denormals_keep_training_stable():
    def disturbed(params):
        scale = np.array(params["blocks"]["mlp_norm"]["scale"])
        scale[:, 3] = 1e4  # one activation far beyond the rest
        scale[:, 4] = 0.0
        scale[:, 5] = 1e-40
        params["blocks"]["mlp_norm"]["scale"] = jnp.asarray(scale)
        params["blocks"]["attention"]["query"] = jnp.zeros_like(params["blocks"]["attention"]["query"])
        return params

    found, health = losses(job_in("fp8"), 15, disturbed)
    assert np.isfinite(found).all()
    assert found[-1] < found[0]
    assert health.skipped == 0


def test_generation_stays_in_the_compute_type():
    job = job_in("fp8")
    passes = Passes(job, make_mesh(job), "bf16")
    state = init_state(job, make_mesh(job))
    tokens, start = np.zeros((2, 4), np.int32), np.zeros(2, np.int32)
    text = jax.jit(passes.extend).lower(state.params, passes.empty(2, 8), tokens, start).as_text()
    assert "dot_general" in text
    assert "f8E" not in text
