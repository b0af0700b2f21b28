import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainer.losses import cross_entropy


def naive(hidden, table, targets, weights):
    log_p = jax.nn.log_softmax(hidden @ table.T)
    return -jnp.sum(weights * jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0])


def example(B, T, H=8, V=50):
    random = np.random.default_rng(B * 100 + T)
    weights = random.random((B, T), np.float32) * (random.random((B, T)) < 0.8)
    return (
        jnp.float32(random.standard_normal((B, T, H))),
        jnp.float32(random.standard_normal((V, H))),
        jnp.int32(random.integers(0, V, (B, T))),
        jnp.float32(weights),
    )


@pytest.mark.parametrize(
    ("B", "T", "chunk_tokens"),
    [(2, 12, 8), (2, 13, 8), (3, 17, 1), (1, 1, 5), (3, 5, 1000), (2, 7, 13)],
    ids=["divides", "ragged", "one position at a time", "one token", "one chunk", "last chunk mostly padding"],
)
def test_any_chunking_equals_the_whole(B, T, chunk_tokens):
    hidden, table, targets, weights = example(B, T)
    chunked = jax.value_and_grad(
        lambda h, e: cross_entropy(h, e, targets, weights, chunk_tokens=chunk_tokens), argnums=(0, 1), has_aux=True
    )
    (loss, total), gradients = chunked(hidden, table)
    expected, expected_gradients = jax.value_and_grad(naive, argnums=(0, 1))(hidden, table, targets, weights)
    # The same float32 terms in another order.
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, weights.sum(), rtol=1e-6)
    for found, exact in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


def test_agrees_with_float64():
    hidden, table, targets, weights = example(2, 11)
    logits = np.asarray(hidden, np.float64) @ np.asarray(table, np.float64).T
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, np.asarray(targets)[..., None], -1)[..., 0]
    loss, _ = cross_entropy(hidden, table, targets, weights, chunk_tokens=8)
    np.testing.assert_allclose(loss, -(weights * picked).sum(), rtol=2e-6)


def test_never_holds_all_logits():
    B, T, H, V, chunk = 2, 256, 8, 4096, 32
    shapes = (
        jax.ShapeDtypeStruct((B, T, H), jnp.float32),
        jax.ShapeDtypeStruct((V, H), jnp.float32),
        jax.ShapeDtypeStruct((B, T), jnp.int32),
        jax.ShapeDtypeStruct((B, T), jnp.float32),
    )

    def temporary_bytes(loss):
        memory = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*shapes).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    all_logits = B * T * V * 4
    assert temporary_bytes(lambda *x: cross_entropy(*x, chunk_tokens=chunk)[0]) < all_logits / 2
    assert temporary_bytes(naive) >= all_logits


@pytest.mark.parametrize("chunk_tokens", [4, 1000])
def test_weight_zero_counts_nothing_even_with_a_target_outside_the_vocabulary(chunk_tokens):
    hidden, table, targets, weights = example(1, 8)
    ignored = weights.at[:, 3].set(0.0)
    loss, total = cross_entropy(hidden, table, targets.at[:, 3].set(-1), ignored, chunk_tokens=chunk_tokens)
    np.testing.assert_allclose(loss, naive(hidden, table, targets, ignored), rtol=1e-6)
    np.testing.assert_allclose(total, ignored.sum(), rtol=1e-6)
