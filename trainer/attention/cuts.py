"""A sequence cut into blocks, and which blocks of keys a block of queries has to visit.

Blocks come first, so that a loop over them reads whole contiguous arrays; heads come before the sequence, so that a
block is a batch of matrices. The last block is padded with zeros, whose segment 0 nobody sees.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from trainer.attention.pattern import Pattern


class Cut(NamedTuple):
    """n blocks of t tokens, or one of them when it is a scan that visits them."""

    segments: jax.Array
    """int [n, B, t] document numbers."""
    places: jax.Array
    """int [n, t] places in the window."""


def cut_segments(segments: jax.Array, block: int, offset: int | jax.Array) -> Cut:
    """[B, T] -> blocks of min(block, T); the first token's place is offset."""
    B, T = segments.shape
    t = min(block, T)
    n = -(-T // t)
    padded = jnp.pad(segments, ((0, 0), (0, n * t - T)))
    return Cut(padded.reshape(B, n, t).swapaxes(0, 1), offset + jnp.arange(n * t).reshape(n, t))


def key_blocks_seen(queries: Cut, keys: Cut, pattern: Pattern) -> tuple[jax.Array, jax.Array]:
    """First block, and one past the last block, of keys that each block of queries may see: int32 [n] and [n].

    Equal where it sees none. Blocks between them are left out by distance (causal, window) and where no row of the
    batch has a document in common: close to half of all pairs when causal, a band when windowed.
    """
    (query_low, query_high), (key_low, key_high) = _documents(queries.segments), _documents(keys.segments)
    shared = ((query_low[:, None] <= key_high) & (key_low <= query_high[:, None])).any(-1)
    near = keys.places[:, 0] <= queries.places[:, -1:]
    if pattern.window is not None:
        near &= keys.places[:, -1] > queries.places[:, :1] - pattern.window
    seen = shared & near
    first = jnp.argmax(seen, axis=1).astype(jnp.int32)
    end = seen.shape[1] - jnp.argmax(seen[:, ::-1], axis=1).astype(jnp.int32)
    return first, jnp.where(seen.any(axis=1), end, first)


def _documents(segments: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lowest and highest document number of each block, padding left out: [n, B] and [n, B]."""
    real = segments != 0
    return (
        jnp.where(real, segments, jnp.iinfo(segments.dtype).max).min(-1),
        jnp.where(real, segments, jnp.iinfo(segments.dtype).min).max(-1),
    )


def cut_queries(x: jax.Array, pattern: Pattern, cut: Cut) -> jax.Array:
    """[B, T, N * D] -> [n, B, K, G, t, D]."""
    n, B, t = cut.segments.shape
    x = jnp.pad(x, ((0, 0), (0, n * t - x.shape[1]), (0, 0)))
    x = x.reshape(B, n, t, pattern.kv_heads, pattern.group, pattern.head_dim)
    return x.transpose(1, 0, 3, 4, 2, 5)


def join_queries(x: jax.Array, T: int) -> jax.Array:
    """[n, B, K, G, t, D] -> [B, T, N * D]."""
    n, B, K, G, t, D = x.shape
    return x.transpose(1, 0, 4, 2, 3, 5).reshape(B, n * t, K * G * D)[:, :T]


def cut_keys(x: jax.Array, pattern: Pattern, cut: Cut) -> jax.Array:
    """[B, S, K * D] -> [n, B, K, s, D]."""
    n, B, s = cut.segments.shape
    x = jnp.pad(x, ((0, 0), (0, n * s - x.shape[1]), (0, 0)))
    return x.reshape(B, n, s, pattern.kv_heads, pattern.head_dim).transpose(1, 0, 3, 2, 4)


def join_keys(x: jax.Array, S: int) -> jax.Array:
    """[n, B, K, s, D] -> [B, S, K * D]."""
    n, B, K, s, D = x.shape
    return x.transpose(1, 0, 3, 2, 4).reshape(B, n * s, K * D)[:, :S]
