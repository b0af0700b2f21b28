import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.agreement import Agreement
from trainer.batch import Batch
from trainer.forward import make_hidden_states
from trainer.mesh import make_mesh
from trainer.model import init_params
from trainer.optimizer import learning_rate
from trainer.orders import Orders
from trainer.step import (
    TrainState,
    abstract_state,
    init_state,
    make_eval_step,
    make_train_step,
    put_batch,
    seed_keys,
    state_shardings,
)

TRAINING = {"learning_rate": 1e-2, "warmup_steps": 5, "max_steps": 60}


@functools.cache
def start():
    """A fresh state of the tiny job on the host; steps consume what they are given."""
    job = tiny_job(training=TRAINING)
    return jax.device_get(init_state(job, make_mesh(job)))


@functools.cache
def compiled(dropout_rate=0.0):
    """The job, its mesh and its compiled step."""
    job = tiny_job(model={"dropout_rate": dropout_rate}, training=TRAINING)
    mesh = make_mesh(job)
    return job, mesh, make_train_step(job, mesh)


def train(step, job, mesh, batches, state=None):
    """The last state and every step's metrics, on the host."""
    # In its place from the first step on, or the second step would be compiled anew.
    state = jax.device_put(start() if state is None else state, state_shardings(job, mesh))
    history = []
    for batch in batches:
        state, metrics = step(state, put_batch(batch, mesh))
        history.append(jax.device_get(metrics))
    return jax.device_get(state), history


def losses(history):
    return [float(metrics.loss) for metrics in history]


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_same_seed_same_losses_and_weights_to_the_bit():
    job, mesh, step = compiled(dropout_rate=0.2)
    batches = [random_batch(job, seed) for seed in range(5)]
    first, again = train(step, job, mesh, batches), train(step, job, mesh, batches)
    assert_equal_trees(first, again)
    assert first[0].step == 5


def test_dropout_follows_from_seed_and_step():
    job, mesh, step = compiled(dropout_rate=0.2)
    batch = random_batch(job)
    state, (first, second) = train(step, job, mesh, [batch, batch])
    # From the same weights at another step: another mask, another loss.
    _, (elsewhere,) = train(step, job, mesh, [batch], start()._replace(step=jnp.int32(7)))
    assert elsewhere.loss != first.loss
    # Resumed at step 1 from what was saved there, the run goes on as it did.
    saved, _ = train(step, job, mesh, [batch])
    resumed, (repeated,) = train(step, job, mesh, [batch], saved)
    assert repeated.loss == second.loss
    assert_equal_trees(resumed, state)


def test_seeds_differ_and_keys_of_a_seed_are_independent():
    keys = {bytes(jax.random.key_data(key)) for seed in (0, 1, 2**32 - 1) for key in seed_keys(seed)}
    assert len(keys) == 6
    config = tiny_job().effective.model
    zero, one = (init_params(config, seed_keys(seed)[0])["embedding"] for seed in (0, 1))
    assert not np.any(zero == one)


def test_accumulation_equals_the_large_batch():
    job, mesh, step = compiled()
    batches = [random_batch(job, seed) for seed in range(3)]
    whole, whole_history = train(step, job, mesh, batches)
    parts_job = tiny_job(training=TRAINING | {"batch_size": 2, "grad_accum_steps": 4})
    parts, parts_history = train(make_train_step(parts_job, mesh), parts_job, mesh, batches)
    # Micro-batches hold different numbers of tokens, so a mean of means would be off by percents.
    counts = batches[0].weights.sum(1)
    assert len({counts[i::4].sum() for i in range(4)}) > 1
    np.testing.assert_allclose(losses(parts_history), losses(whole_history), rtol=1e-5)
    np.testing.assert_allclose([m.grad_norm for m in parts_history], [m.grad_norm for m in whole_history], rtol=1e-4)
    assert [m.tokens for m in parts_history] == [m.tokens for m in whole_history]
    # Adam divides by a gradient's size: where that is rounding noise, so is the direction of a step of 1e-2.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-4), parts.params, whole.params)


def test_gradient_is_the_slope_of_the_loss():
    job = tiny_job(model={"num_kv_heads": 2, "activation": "swiglu", "tie_embeddings": False})
    mesh = make_mesh(job)
    evaluate = make_eval_step(job, mesh)
    batch = random_batch(job)
    # Away from the start, where many gradients nearly vanish.
    params = jax.tree.map(lambda x: 1.5 * x, init_params(job.effective.model, jax.random.key(3)))

    @jax.jit
    def loss(p):
        total, weight = evaluate(p, batch)
        return total / weight

    gradient = jax.grad(loss)(params)
    leaves, tree = jax.tree.flatten(params)
    for seed in range(4):
        random = np.random.default_rng(seed)
        # Half along the gradient's sign and half at random, so that the slope is far above rounding.
        direction = jax.tree.unflatten(tree, [jnp.float32(random.standard_normal(leaf.shape)) for leaf in leaves])
        direction = jax.tree.map(lambda d, g: d * jnp.abs(g) + g, direction, gradient)
        direction = optax.tree.scale(1 / optax.tree.norm(direction), direction)
        reach = 1e-3
        ahead, behind = (loss(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (reach, -reach))
        # Slopes are near 2.6: over 2e-3 the loss moves by 5e-3, and float32 losses near 6 are exact to about 1e-6.
        slope = float(optax.tree.vdot(gradient, direction))
        assert float(ahead - behind) / (2 * reach) == pytest.approx(slope, rel=2e-3)


def test_metrics_are_those_of_the_step():
    job, mesh, step = compiled()
    batch = random_batch(job)
    evaluate = make_eval_step(job, mesh)

    def mean_loss(params):
        total, weight = evaluate(params, batch)
        return total / weight

    loss, gradient = jax.value_and_grad(mean_loss)(start().params)
    _, (metrics, second) = train(step, job, mesh, [batch, batch])
    assert metrics.loss == pytest.approx(float(loss), rel=1e-6)
    assert metrics.grad_norm == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-5)
    assert metrics.tokens == batch.weights.sum()
    rate = learning_rate(job.effective.training)
    assert [metrics.learning_rate, second.learning_rate] == [rate(0), rate(1)]
    assert metrics.finite


def test_a_step_that_is_not_finite_leaves_weights_alone_and_says_so():
    job, mesh, step = compiled()
    poisoned = jax.tree.map(np.copy, start())
    poisoned.params["norm"]["scale"][0] = np.inf
    state, (metrics,) = train(step, job, mesh, [random_batch(job)], poisoned)
    assert not metrics.finite
    assert (metrics.health.bad, metrics.health.skipped) == (1, 1)
    assert_equal_trees((state.params, state.opt_state), (poisoned.params, poisoned.opt_state))
    assert state.step == 1


def test_a_weight_that_would_overflow_stays_as_it_was():
    job, mesh, step = compiled()
    poisoned = jax.tree.map(np.copy, start())
    poisoned.opt_state[1].mu["norm"]["scale"][0] = 3e38  # loss and gradient are sound
    poisoned.opt_state[1].nu["norm"]["scale"][0] = 0.0
    state, (metrics,) = train(step, job, mesh, [random_batch(job)], poisoned)
    assert metrics.finite
    assert state.params["norm"]["scale"][0] == poisoned.params["norm"]["scale"][0]
    assert np.all(state.params["norm"]["scale"][1:] != poisoned.params["norm"]["scale"][1:])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_a_batch_without_any_counted_token_changes_no_gradient():
    job, mesh, step = compiled()
    batch = random_batch(job)
    _, (metrics,) = train(step, job, mesh, [batch._replace(weights=np.zeros_like(batch.weights))])
    assert (metrics.loss, metrics.grad_norm, metrics.tokens, bool(metrics.finite)) == (0.0, 0.0, 0.0, True)


def test_bfloat16_compute_follows_float32_and_keeps_float32_weights():
    job, mesh, step = compiled()
    batches = [random_batch(job, seed % 2) for seed in range(8)]
    _, exact = train(step, job, mesh, batches)
    low = tiny_job(compute="bfloat16", training=TRAINING)
    state, rounded = train(make_train_step(low, mesh), low, mesh, batches)
    # bfloat16 keeps 8 bits; averaged over hundreds of tokens its rounding moves a loss of 5 by about 0.005.
    np.testing.assert_allclose(losses(rounded), losses(exact), rtol=0.01)
    assert losses(rounded) != losses(exact)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}


def test_learns_a_repeating_pattern():
    job, mesh, step = compiled()
    S, T = job.batch.sequences_per_step, job.effective.model.max_seq_len
    pattern = np.array([7, 3, 250, 3, 99], np.int32)
    rows = [np.resize(np.roll(pattern, -shift), T + 1) for shift in range(S)]
    tokens = np.stack(rows)
    ones = np.ones((S, T), np.int32)
    batch = Batch(tokens[:, :-1], tokens[:, 1:], ones, np.ones((S, T), np.float32))
    state, history = train(step, job, mesh, [batch] * 60)
    assert history[0].loss > 5.0
    # What follows the first 3 cannot be known: a loss of ln 2 once or twice a window.
    assert history[-1].loss < 0.1
    _, logits = make_hidden_states(job, mesh)(state.params, tokens[:1, :T], ones[:1])
    assert int(jnp.argmax(logits[0, 11])) == tokens[0, 12]


def test_abstract_state_is_the_state():
    job = tiny_job()
    mesh = make_mesh(job)
    state, abstract = init_state(job, mesh), abstract_state(job, mesh)
    assert isinstance(abstract, TrainState)
    assert int(state.step) == 0

    def same(leaf, shape):
        assert (leaf.shape, leaf.dtype) == (shape.shape, shape.dtype)
        assert leaf.sharding.is_equivalent_to(shape.sharding, leaf.ndim)

    jax.tree.map(same, state, abstract)


def test_moments_in_bfloat16_train_nearly_as_well():
    job, mesh, step = compiled()
    batches = [random_batch(job, seed % 2) for seed in range(8)]
    _, exact = train(step, job, mesh, batches)
    low = tiny_job(training=TRAINING | {"optimizer": {"state_dtype": "bfloat16"}})
    state, rounded = train(make_train_step(low, mesh), low, mesh, batches, jax.device_get(init_state(low, mesh)))
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert {leaf.dtype for leaf in moments} == {np.dtype(jnp.bfloat16)}
    # A moment is kept to 1 part in 256, and so is each weight's step.
    np.testing.assert_allclose(losses(rounded), losses(exact), rtol=0.005)
    assert losses(rounded) != losses(exact)


def test_a_step_moves_nothing_between_host_and_device():
    job, mesh, step = compiled(dropout_rate=0.2)
    state = jax.device_put(start(), state_shardings(job, mesh))
    batches = [put_batch(random_batch(job, seed), mesh) for seed in range(3)]
    agreement = Agreement(Orders(), mesh)
    agreement.alone = False  # of several processes, which agree in the step
    state, _ = step(state, batches[0], orders=agreement.voice())
    with jax.transfer_guard("disallow"):
        for batch in batches[1:]:
            state, metrics = step(state, batch, orders=agreement.voice())
    assert metrics.finite


def test_a_step_returns_the_loudest_of_the_orders_sent_with_it():
    job = tiny_job(mesh={"data": 4, "model": 2}, micro_batch=8)
    mesh = make_mesh(job)
    place = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    orders = jax.device_put(np.array([0, 0, 1, 0, 0, 17, 0, 1], np.int32), place)
    _, metrics = make_train_step(job, mesh)(init_state(job, mesh), put_batch(random_batch(job, 0), mesh), orders=orders)
    assert int(metrics.heard) == 17
