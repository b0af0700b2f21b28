from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from trainer.linear import Multiplied, linear


def example(*shape, O=5):  # noqa: E741
    random = np.random.default_rng(0)
    return tuple(np.float32(random.standard_normal(s)) for s in (shape, (shape[-1], O), (*shape[:-1], O)))


def multiplied(transpose):
    return partial(linear, how=Multiplied(transpose_gradients=transpose))


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shape", [(7, 3), (2, 4, 3), (2, 3, 1, 4), (1, 1)])
def test_value_and_gradients_are_those_of_the_product(shape, transpose):
    x, w, dy = example(*shape)
    y, pull = jax.vjp(multiplied(transpose), jnp.asarray(x), jnp.asarray(w))
    dx, dw = pull(jnp.asarray(dy))
    # float32 sums of at most eight products of size about 1.
    for found, expected in ((y, x @ w), (dx, dy @ w.T), (dw, x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, 5))):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("transpose", [False, True])
def test_bfloat16_stays_bfloat16(transpose):
    x, w, dy = (jnp.asarray(a, jnp.bfloat16) for a in example(64, 8))
    y, pull = jax.vjp(multiplied(transpose), x, w)
    gradients = pull(dy)
    assert {a.dtype for a in (y, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    exact = np.asarray(x, np.float64).T @ np.asarray(dy, np.float64)
    # One rounding to 8 bits of a sum that was made in float32.
    np.testing.assert_allclose(np.asarray(gradients[1], np.float64), exact, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("transpose", [False, True])
def test_columns_split_over_devices_sum_the_gradient_of_what_they_share(transpose):
    x, w, dy = example(2, 4, 3, O=6)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    specs = PartitionSpec("data"), PartitionSpec(None, "model")
    out = PartitionSpec("data", None, "model")
    split = jax.shard_map(multiplied(transpose), mesh=mesh, in_specs=specs, out_specs=out)
    _, pull = jax.vjp(jax.jit(split), jnp.asarray(x), jnp.asarray(w))
    dx, dw = pull(jnp.asarray(dy))
    # As on one device: x is shared along model, and w along data.
    np.testing.assert_allclose(dx, dy @ w.T, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dw, np.einsum("bti,bto->io", x, dy), rtol=1e-5, atol=1e-6)


def test_only_on_request_is_an_operand_transposed_for_real():
    x, w, _ = example(4, 3)

    def barriers(transpose):
        gradient = jax.grad(lambda x, w: multiplied(transpose)(x, w).sum(), argnums=(0, 1))
        return jax.jit(gradient).lower(x, w).as_text().count("optimization_barrier")

    assert (barriers(False), barriers(True)) == (0, 1)
