import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from trainer.losses import cross_entropy


class Batch(NamedTuple):
    hidden: Any
    table: Any
    targets: Any
    weights: Any


def example(B, T, H=8, V=50, seed=0, size=1.0):
    """float32 throughout; a fifth of the weights are 0, and their targets are no tokens."""
    random = np.random.default_rng(seed)
    counted = random.random((B, T)) < 0.8
    targets = np.where(counted, random.integers(0, V, (B, T)), random.choice([-1, V, 2**31 - 1], (B, T)))
    hidden, table = size * random.standard_normal((B, T, H)), random.standard_normal((V, H))
    weights = random.random((B, T)) * counted
    return Batch(np.float32(hidden), np.float32(table), np.int32(targets), np.float32(weights))


def naive(batch, z_loss=0.0, label_smoothing=0.0, softcap=None):
    """Total and gradients of hidden and table in float64, from whole logits."""
    hidden, table = (np.asarray(x, np.float64) for x in batch[:2])
    weights, V = np.asarray(batch.weights, np.float64)[..., None], table.shape[0]
    raw = hidden @ table.T
    logits = raw if softcap is None else softcap * np.tanh(raw / softcap)
    highest = logits.max(-1, keepdims=True)
    log_sum = highest + np.log(np.exp(logits - highest).sum(-1, keepdims=True))
    wanted = (1 - label_smoothing) * (batch.targets[..., None] == np.arange(V)) + label_smoothing / V
    # A token without weight may have no target.
    losses = log_sum - (wanted * logits).sum(-1, keepdims=True) + z_loss * log_sum**2
    d_logits = weights * (np.exp(logits - log_sum) * (1 + 2 * z_loss * log_sum) - wanted)
    if softcap is not None:
        d_logits = d_logits / np.cosh(raw / softcap) ** 2
    d_table = d_logits.reshape(-1, V).T @ hidden.reshape(-1, hidden.shape[-1])
    return np.sum(weights * losses), (d_logits @ table, d_table)


def found(batch, dtype=jnp.float32, **options):
    hidden, table, targets, weights = (jnp.asarray(x) for x in batch)

    @jax.jit
    def value_and_gradients(hidden, table):
        return jax.value_and_grad(
            lambda h, e: cross_entropy(h, e, targets, weights, **options), argnums=(0, 1), has_aux=True
        )(hidden, table)

    return value_and_gradients(hidden.astype(dtype), table.astype(dtype))


def assert_equal(result, expected, rtol=1e-5, atol=1e-5):
    """By default: float32 sums of a few dozen terms of size about 10."""
    (total, _), gradients = result
    np.testing.assert_allclose(total, expected[0], rtol=rtol, atol=atol)
    for ours, exact in zip(gradients, expected[1], strict=True):
        np.testing.assert_allclose(ours, exact, rtol=10 * rtol, atol=atol)


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "z-loss": {"z_loss": 0.01},
    "label smoothing": {"label_smoothing": 0.1},
    "soft-cap": {"softcap": 2.0},
    "all": {"z_loss": 0.01, "label_smoothing": 0.1, "softcap": 2.0},
}
SHIFTS = ["max", "label"]


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_value_and_gradients_are_those_of_the_definition(form, shift, transpose):
    batch = example(2, 13)
    result = found(batch, chunk_tokens=8, shift=shift, transpose_gradients=transpose, **form)
    assert_equal(result, naive(batch, **form))
    np.testing.assert_allclose(result[0][1], batch.weights.sum(), rtol=1e-6)


@settings(max_examples=25)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 9), st.integers(1, 40)),
    chunk_tokens=st.integers(1, 70),
    form=st.sampled_from(list(FORMS.values())),
    shift=st.sampled_from(SHIFTS),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_sizes_and_chunks(sizes, chunk_tokens, form, shift, seed):
    B, T, H, V = sizes
    batch = example(B, T, H, V, seed)
    assert_equal(found(batch, chunk_tokens=chunk_tokens, shift=shift, **form), naive(batch, **form))


@pytest.mark.parametrize("shift", SHIFTS)
def test_without_weights_everything_is_zero(shift):
    batch = example(2, 7)._replace(weights=np.zeros((2, 7), np.float32))
    (total, weight), gradients = found(batch, chunk_tokens=4, shift=shift)
    assert (float(total), float(weight)) == (0.0, 0.0)
    assert not any(np.any(gradient) for gradient in gradients)


def test_huge_logits_stay_finite_and_right():
    batch = example(2, 9, size=300)
    expected = naive(batch)
    assert np.abs(batch.hidden @ batch.table.T).max() > 1e3
    # Logits near 1e3 carry an absolute error of 1e-4 in float32, and gradients are off by that share of a row.
    assert_equal(found(batch, chunk_tokens=4), expected, rtol=1e-5, atol=2e-3 * np.abs(batch.hidden).max())


def test_shifted_by_the_label_a_loss_is_right_up_to_88_nats_and_then_infinite():
    def total(gap):
        batch = Batch(np.ones((1, 1, 1)), np.array([[0.0], [gap]]), np.zeros((1, 1), int), np.ones((1, 1)))
        return float(found(batch, chunk_tokens=1, shift="label")[0][0])

    np.testing.assert_allclose(total(87.0), 87.0, rtol=1e-6)
    assert total(90.0) == np.inf


def test_float16_has_no_room_for_exponentials():
    with pytest.raises(ValueError, match="too large for float16"):
        found(example(1, 2), jnp.float16, chunk_tokens=2, shift="label")


@pytest.mark.parametrize("shift", SHIFTS)
def test_bfloat16_hidden_states_close_to_float64(shift):
    batch = example(4, 32, H=16, V=200)
    rounded = [np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) for x in batch[:2]]
    batch = Batch(*rounded, *batch[2:])
    (total, _), gradients = found(batch, jnp.bfloat16, chunk_tokens=32, shift=shift)
    assert total.dtype == jnp.float32
    assert {gradient.dtype for gradient in gradients} == {jnp.dtype(jnp.bfloat16)}
    expected, exact_gradients = naive(batch)
    # Logits of about 4 are rounded by up to 2 ** -7, probabilities so by about 1%.
    np.testing.assert_allclose(total, expected, rtol=1e-3)
    for ours, exact in zip(gradients, exact_gradients, strict=True):
        error = np.asarray(ours, np.float64) - exact
        assert np.linalg.norm(error) < 0.01 * np.linalg.norm(exact)


def test_gradients_follow_the_factor_of_the_loss():
    batch = example(1, 6)
    hidden, table, targets, weights = map(jnp.asarray, batch)
    scaled = jax.grad(lambda h: 1024.0 * cross_entropy(h, table, targets, weights, chunk_tokens=4)[0])(hidden)
    plain = jax.grad(lambda h: cross_entropy(h, table, targets, weights, chunk_tokens=4)[0])(hidden)
    np.testing.assert_array_equal(scaled, 1024.0 * plain)


def on_devices(batch, mesh, hidden_spec, **options):
    """Value and gradients with the table's rows split over "model" and tokens over "data"."""
    table_spec = PartitionSpec("model")

    def total(hidden, table, targets, weights):
        sums = cross_entropy(hidden, table, targets, weights, vocab_axis="model", **options)
        return jax.tree.map(lambda x: jax.lax.psum(x, "data"), sums)

    specs = (hidden_spec, table_spec, hidden_spec, hidden_spec)
    split = jax.shard_map(total, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=True)
    rest = jnp.asarray(batch.targets), jnp.asarray(batch.weights)
    both = jax.value_and_grad(lambda h, e: split(h, e, *rest), argnums=(0, 1), has_aux=True)
    return jax.jit(both)(jnp.asarray(batch.hidden), jnp.asarray(batch.table))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("form", [FORMS["plain"], FORMS["all"]], ids=["plain", "all"])
@pytest.mark.parametrize(("data", "model"), [(1, 2), (1, 4), (2, 2)])
def test_a_split_vocabulary_changes_nothing(data, model, form, shift):
    batch = example(4, 6, V=48)
    mesh = Mesh(np.array(jax.devices()[: data * model]).reshape(data, model), ("data", "model"))
    result = on_devices(batch, mesh, PartitionSpec("data"), chunk_tokens=8, shift=shift, **form)
    assert_equal(result, naive(batch, **form))


def largest_array(text):
    return max(
        int(np.prod([int(size) for size in sizes.split(",")]))
        for sizes in re.findall(r"(?:f32|bf16|s32|pred)\[([\d,]+)\]", text)
    )


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("devices", [1, 4])
def test_no_array_of_logits_is_larger_than_a_chunk(devices, shift):
    B, T, H, V, chunk = 4, 64, 8, 2048, 32
    batch = example(B, T, H, V)
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(1, devices), ("data", "model"))

    def value_and_gradients(*batch):
        return on_devices(Batch(*batch), mesh, PartitionSpec(), chunk_tokens=chunk, shift=shift)

    text = jax.jit(value_and_gradients).lower(*batch).compile().as_text()
    assert text is not None
    # A chunk's logits are the largest; the whole table on one device is only half as large.
    assert largest_array(text) == chunk * V // devices

    def whole(hidden, table):
        logits = hidden @ table.T
        return jnp.sum(jax.nn.logsumexp(logits, axis=-1))

    text = jax.jit(jax.grad(whole)).lower(batch.hidden, batch.table).compile().as_text()
    assert largest_array(text) == B * T * V


def test_evaluation_makes_no_gradient():
    batch = example(2, 16, V=64)

    def total(*batch):
        return cross_entropy(*batch, chunk_tokens=8)[0]

    def products(function):
        return jax.jit(function).lower(*batch).as_text().count("dot_general")

    assert products(total) == 1
    assert products(jax.value_and_grad(total)) == 2  # the table's gradient is not asked for
    assert products(jax.value_and_grad(total, argnums=(0, 1))) == 3
