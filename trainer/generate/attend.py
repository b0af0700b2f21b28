"""Attention of new tokens over a cache.

    out_t = sum_s softmax_s(scale q_t . k_s) v_s        over s <= position of t, and position of t - s < window

A row's tokens stand at the positions 0, 1, ... of its own cache, without gaps, so positions are all there is to a mask:
what lies beyond a row's newest token (padding of the prompt's last chunk, or nothing yet) is never seen, and is
overwritten when the row gets there. fp8's powers of two multiply scores and weights, not the D times as many numbers.
"""

import jax
import jax.numpy as jnp

from trainer.attention.pattern import Pattern
from trainer.attention.visible import MASKED
from trainer.generate.cache import Cache, Stored, widened


def attend_cached(q: jax.Array, cache: Cache, positions: jax.Array, pattern: Pattern) -> jax.Array:
    """Mixtures of values [B, T, heads * D] in q's dtype.

    Args:
        q: [B, T, heads * D] rotated queries, whose own keys and values are in the cache already.
        cache: one layer's, [B, S, kv_heads * D].
        positions: int32 [B, T] of the queries.
        pattern: who sees whom; nothing is dropped.
    """
    B, T, _ = q.shape
    S, K, G, D = cache.keys.numbers.shape[1], pattern.kv_heads, pattern.group, pattern.head_dim
    keys, values = (widened(stored, q.dtype).reshape(B, S, K, D) for stored in cache)
    queries = q.reshape(B, T, K, G, D)
    scores = jnp.einsum("btkgd,bskd->bkgts", queries, keys, preferred_element_type=jnp.float32) * pattern.scale
    scores = _scaled(scores, cache.keys)
    if pattern.softcap is not None:
        scores = pattern.softcap * jnp.tanh(scores / pattern.softcap)
    ahead = positions[:, :, None] - jnp.arange(S)
    seen = ahead >= 0
    if pattern.window is not None:
        seen &= ahead < pattern.window
    p = _scaled(jax.nn.softmax(jnp.where(seen[:, None, None], scores, MASKED), axis=-1), cache.values)
    out = jnp.einsum("bkgts,bskd->btkgd", p.astype(q.dtype), values, preferred_element_type=jnp.float32)
    return out.reshape(q.shape).astype(q.dtype)


def _scaled(x: jax.Array, stored: Stored) -> jax.Array:
    """[B, K, G, T, S] times the powers of two that the stored numbers lack."""
    if stored.exponents is None:
        return x
    factors = jnp.exp2(stored.exponents.astype(jnp.float32))
    return x * factors.swapaxes(1, 2)[:, :, None, None]
