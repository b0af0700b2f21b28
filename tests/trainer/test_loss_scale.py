"""The dynamic loss scale: alone, and in a step whose gradients overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.checkpoints import Checkpoints
from trainer.loss_scale import GROWTH_INTERVAL, HIGHEST, INITIAL, Health, after_step, healthy
from trainer.mesh import make_mesh
from trainer.step import abstract_state, init_state, make_train_step, put_batch
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.resolved import Precision

DYNAMIC, NONE = Precision(compute="float32", loss_scale="dynamic"), Precision(compute="float32")
NAN = float("nan")


def after(health, *, loss=1.0, finite=True, precision=DYNAMIC):
    return Health(*(x.item() for x in after_step(health, precision, jnp.float32(loss), jnp.asarray(finite))))


def health(scale=INITIAL, good=0, bad=0, skipped=0):
    return Health(jnp.float32(scale), *(jnp.int32(n) for n in (good, bad, skipped)))


def test_an_overflow_halves_the_scale_at_once_and_is_not_a_bad_step():
    assert after(health(good=7), finite=False) == (INITIAL / 2, 0, 0, 1)


def test_at_the_smallest_scale_an_overflow_is_a_bad_step():
    assert after(health(scale=1.0), finite=False) == (1.0, 0, 1, 1)
    assert after(health(scale=1.0, bad=3, skipped=9), finite=False) == (1.0, 0, 4, 10)


def test_a_loss_that_is_no_number_is_bad_whatever_the_scale_and_leaves_it():
    assert after(health(good=7), loss=NAN, finite=False) == (INITIAL, 0, 1, 1)


def test_a_good_step_ends_a_row_of_bad_ones():
    assert after(health(scale=1.0, bad=3, skipped=3)) == (1.0, 1, 0, 3)


def test_the_scale_grows_back_after_enough_good_steps_up_to_a_limit():
    assert after(health(good=GROWTH_INTERVAL - 1)) == (2 * INITIAL, 0, 0, 0)
    assert after(health(scale=HIGHEST, good=GROWTH_INTERVAL - 1)) == (HIGHEST, 0, 0, 0)


def test_without_dynamic_scaling_the_scale_is_one_for_ever():
    start = healthy(NONE)
    assert start.scale == 1.0
    assert after(start, finite=False, precision=NONE) == (1.0, 0, 1, 1)
    assert after(start._replace(good=jnp.int32(GROWTH_INTERVAL)), precision=NONE).scale == 1.0


@given(st.lists(st.sampled_from(["good", "overflow", "nan"]), max_size=60))
def test_counts_add_up_and_the_scale_stays_a_power_of_two(steps):
    state = healthy(DYNAMIC)
    for step in steps:
        state = after_step(state, DYNAMIC, jnp.float32(NAN if step == "nan" else 1.0), jnp.asarray(step == "good"))
    assert state.skipped == sum(step != "good" for step in steps)
    mantissa, _ = np.frexp(float(state.scale))
    assert mantissa == 0.5
    assert 1.0 <= state.scale <= HIGHEST


@pytest.fixture(scope="module")
def scaled():
    job = tiny_job()
    job = job.model_copy(update={"precision": DYNAMIC})
    mesh = make_mesh(job)
    return job, mesh, make_train_step(job, mesh)


def test_a_scale_of_a_power_of_two_changes_no_bit(scaled):
    job, mesh, step = scaled
    plain = tiny_job()
    batch = put_batch(random_batch(job), mesh)
    state, metrics = step(init_state(job, mesh), batch)
    plain_state, plain_metrics = make_train_step(plain, mesh)(init_state(plain, mesh), batch)
    assert metrics.health.scale == INITIAL
    assert plain_metrics.health.scale == 1.0
    jax.tree.map(np.testing.assert_array_equal, state.params, plain_state.params)


def test_a_step_that_overflows_is_skipped_and_the_next_one_runs_at_half_the_scale(scaled):
    job, mesh, step = scaled
    batch = put_batch(random_batch(job), mesh)
    state = init_state(job, mesh)
    before = jax.device_get(state.params)
    state = state._replace(health=state.health._replace(scale=jnp.float32(2.0**127)))
    state, metrics = step(state, batch)
    assert not metrics.finite
    assert np.isfinite(metrics.loss)
    jax.tree.map(np.testing.assert_array_equal, state.params, before)
    while not metrics.finite:  # recovers by itself
        assert metrics.health.bad == 0
        state, metrics = step(state, batch)
    assert metrics.health.skipped == 127 - int(np.log2(float(metrics.health.scale)))
    assert np.any(state.params["embedding"] != before["embedding"])


def test_the_scale_and_its_counts_are_checkpointed(scaled, tmp_path):
    job, mesh, step = scaled
    batch = put_batch(random_batch(job), mesh)
    state = init_state(job, mesh)
    state, _ = step(state._replace(health=state.health._replace(scale=jnp.float32(2.0**127))), batch)
    assert (float(state.health.scale), int(state.health.skipped)) == (2.0**126, 1)

    checkpoints = Checkpoints(tmp_path, CheckpointSection(), lambda event: None)
    checkpoints.save(state, 1, {})
    checkpoints.wait()
    restored = checkpoints.restore(abstract_state(job, mesh))
    checkpoints.close()
    assert restored is not None
    assert [x.item() for x in restored.state.health] == [2.0**126, 0, 0, 1]
    # And goes on from there: the next overflow halves it again.
    _, metrics = step(restored.state, batch)
    assert (float(metrics.health.scale), int(metrics.health.skipped)) == (2.0**125, 2)
