import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainer.attention import attention

KINDS = ["dense", "blockwise"]
SHAPES = {  # B, T, H, K, D, block
    "block divides": (2, 32, 4, 4, 8, 8),
    "ragged last block": (2, 21, 4, 2, 6, 8),
    "block longer than sequence": (1, 7, 3, 1, 4, 64),
    "one token": (2, 1, 2, 2, 2, 8),
    "prime length, block of one": (1, 13, 2, 1, 4, 1),
}


def reference(q, k, v, segments):
    """Attention one row at a time in float64, and the gradients of its sum weighted by `d_out`."""
    B, T, H, D = q.shape
    out = np.zeros((B, T, H, D))
    group = H // k.shape[2]
    for b, t, h in np.ndindex(B, T, H):
        seen = [s for s in range(t + 1) if segments[b, s] == segments[b, t] != 0]
        if not seen:
            continue
        scores = k[b, seen, h // group] @ q[b, t, h] / np.sqrt(D)
        p = np.exp(scores - scores.max())
        out[b, t, h] = (p / p.sum()) @ v[b, seen, h // group]
    return out


def reference_gradients(q, k, v, segments, d_out):
    """By the softmax's own Jacobian, row by row, in float64."""
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    B, T, H, D = q.shape
    group = H // k.shape[2]
    for b, t, h in np.ndindex(B, T, H):
        seen = [s for s in range(t + 1) if segments[b, s] == segments[b, t] != 0]
        if not seen:
            continue
        keys, values = k[b, seen, h // group], v[b, seen, h // group]
        scores = keys @ q[b, t, h] / np.sqrt(D)
        p = np.exp(scores - scores.max())
        p /= p.sum()
        dp = values @ d_out[b, t, h]
        ds = (np.diag(p) - np.outer(p, p)) @ dp / np.sqrt(D)
        dq[b, t, h] += ds @ keys
        dk[b, seen, h // group] += np.outer(ds, q[b, t, h])
        dv[b, seen, h // group] += np.outer(p, d_out[b, t, h])
    return dq, dk, dv


def attend_to(segments, kind, block):
    """Attention as a function of q, k and v alone."""
    return lambda q, k, v: attention(q, k, v, jnp.asarray(segments, jnp.int32), kind=kind, block=block)


def example(B, T, H, K, D, seed=0):
    random = np.random.default_rng(seed)
    q, k, v, d_out = (2 * random.standard_normal((B, T, heads, D)) for heads in (H, K, K, H))
    index = np.arange(T)
    segments = np.stack([np.where(index < T // 3, 1, np.where(index < T - T // 5, 2, 0))] * B)
    segments[0] = 1  # one row without any boundary
    return q, k, v, segments.astype(np.int32), d_out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_values_and_gradients_are_those_of_the_definition(kind, shape):
    *sizes, block = shape
    q, k, v, segments, d_out = example(*sizes)
    out, pull_back = jax.vjp(attend_to(segments, kind, block), *(jnp.asarray(x, jnp.float32) for x in (q, k, v)))
    gradients = pull_back(jnp.asarray(d_out, jnp.float32))
    # float32 rounding of sums of a few dozen terms of size about 10.
    np.testing.assert_allclose(out, reference(q, k, v, segments), rtol=0, atol=3e-6)
    for found, expected in zip(gradients, reference_gradients(q, k, v, segments, d_out), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_see_nothing_give_exactly_zero(kind):
    q, k, v, _, d_out = example(2, 9, 2, 1, 4)
    out, pull_back = jax.vjp(attend_to(np.zeros((2, 9)), kind, 4), *(jnp.float32(x) for x in (q, k, v)))
    assert not np.any(out)
    assert not any(np.any(gradient) for gradient in pull_back(jnp.float32(d_out)))


@pytest.mark.parametrize("kind", KINDS)
def test_large_scores_do_not_overflow(kind):
    q, k, v, segments, _ = example(1, 12, 2, 2, 4)
    out = attend_to(segments, kind, 5)(jnp.float32(300 * q), jnp.float32(300 * k), jnp.float32(v))
    # Scores of about 1e5 carry an absolute error of 1e-2 in float32, which is what a weight may be off by.
    np.testing.assert_allclose(out, reference(300 * q, 300 * k, v, segments), rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_in_bfloat16_out_close_to_float32(kind):
    q, k, v, segments, d_out = example(2, 32, 4, 2, 8)
    inputs = tuple(jnp.asarray(x, jnp.bfloat16) for x in (q, k, v))
    out, pull_back = jax.vjp(attend_to(segments, kind, 8), *inputs)
    gradients = pull_back(jnp.asarray(d_out, jnp.bfloat16))
    assert {x.dtype for x in (out, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    q, k, v = (np.asarray(x, np.float64) for x in inputs)
    d_out = np.asarray(jnp.asarray(d_out, jnp.bfloat16), np.float64)
    # bfloat16 keeps 8 bits: values of about 4 are off by up to 2 ** -7, doubled for rounded probabilities, and
    # gradients sum up dozens of them.
    np.testing.assert_allclose(np.asarray(out, np.float64), reference(q, k, v, segments), rtol=0, atol=0.06)
    for found, expected in zip(gradients, reference_gradients(q, k, v, segments, d_out), strict=True):
        error = np.asarray(found, np.float64) - expected
        assert np.linalg.norm(error) < 0.01 * np.linalg.norm(expected)


def test_blockwise_memory_grows_with_the_sequence_not_with_its_square():
    def temporary_bytes(T):
        q = jax.ShapeDtypeStruct((1, T, 2, 8), jnp.float32)
        segments = jax.ShapeDtypeStruct((1, T), jnp.int32)
        loss = jax.grad(lambda q, s: attention(q, q, q, s, kind="blockwise", block=64).sum())
        memory = jax.jit(loss).lower(q, segments).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    assert temporary_bytes(4096) < 2.5 * temporary_bytes(2048)
