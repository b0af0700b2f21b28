"""Inputs for the Pallas kernels, what they should give in float64, and what they do give in interpret mode."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.trainer.attention.reference import reference
from trainer.attention.rotary import rotate

NAMES = ("output", "gradient of q", "gradient of k", "gradient of v")


def example(pattern, B, T, seed=0):
    """q, k, v, the output's gradient, segments and rotary tables: one document, or three and padding."""
    random = np.random.default_rng(seed)
    counts = (pattern.heads, pattern.kv_heads, pattern.kv_heads, pattern.heads)
    q, k, v, d_out = (random.standard_normal((B, T, n * pattern.head_dim)).astype(np.float32) for n in counts)
    place = np.arange(T)
    segments = np.stack([np.searchsorted([T // 5, T // 2, T - T // 9], place, side="right") + 1] * B).astype(np.int32)
    segments[segments == 4] = 0
    segments[0] = 1
    half = pattern.head_dim // 2
    angles = place[:, None] * 10000.0 ** (-np.arange(half) / half)
    return (q, k, v), d_out, segments, (jnp.cos(angles), jnp.sin(angles))


def expected(inputs, d_out, segments, tables, pattern):
    """Output and gradients in float64; the rotation, and its transpose by the opposite angles, in float32."""
    q, k, v = inputs
    if tables is not None:
        q, k = (rotate(x, tables, pattern.head_dim) for x in (q, k))
    out, (dq, dk, dv) = reference((q, k, v, segments, segments), 0, pattern, d_out)
    if tables is not None:
        back = (tables[0], -tables[1])
        dq, dk = (rotate(jnp.asarray(x, jnp.float32), back, pattern.head_dim) for x in (dq, dk))
    return out, dq, dk, dv


def computed(attend, inputs, d_out, dtype=jnp.float32):
    """Output and gradients of attend(q, k, v), compiled once."""

    def run(inputs, d_out):
        out, pull = jax.vjp(attend, *inputs)
        return out, *pull(d_out.astype(out.dtype))

    # Without optimization XLA:CPU has no product of bfloat16 matrices.
    options = {"xla_backend_optimization_level": 1} if dtype == jnp.bfloat16 else None
    return jax.jit(run, compiler_options=options)(tuple(jnp.asarray(x, dtype) for x in inputs), jnp.asarray(d_out))


def assert_close(got, wanted, tolerance):
    """Largest deviation, relative to an array's largest entry where that is above 1, as the inputs' entries are."""
    for name, x, y in zip(NAMES, got, wanted, strict=True):
        y = np.asarray(y, np.float64)
        assert np.abs(np.asarray(x, np.float64) - y).max() <= tolerance * max(1, np.abs(y).max()), name
