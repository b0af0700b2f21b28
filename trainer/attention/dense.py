"""Attention as the textbook writes it: softmax(q k^T scale) v over a masked T x S matrix, differentiated by JAX.

Scores and softmax are float32 whatever the inputs. Memory grows with T times S: the reference for the other forms,
and the cheapest one for short sequences.
"""

import jax
import jax.numpy as jnp

from trainer.attention.pattern import Pattern
from trainer.attention.visible import MASKED, visible
from trainer.hashing import keep_mask


def dense_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    query_segments: jax.Array,
    key_segments: jax.Array,
    offset: int | jax.Array,
    rows: jax.Array,
    key: jax.Array | None,
    pattern: Pattern,
) -> jax.Array:
    """Arguments and result as for `trainer.attention.blockwise.blockwise_attention`, to which it is equal."""
    B, T, _ = q.shape
    S, K, G, D = k.shape[1], pattern.kv_heads, pattern.group, pattern.head_dim
    queries, keys, values = q.reshape(B, T, K, G, D), k.reshape(B, S, K, D), v.reshape(B, S, K, D)
    scores = jnp.einsum("btkgd,bskd->bkgts", queries, keys, preferred_element_type=jnp.float32) * pattern.scale
    if pattern.softcap is not None:
        scores = pattern.softcap * jnp.tanh(scores / pattern.softcap)
    query_index = offset + jnp.arange(T)
    mask = visible(query_segments, key_segments, query_index, jnp.arange(S), pattern)[:, None, None]
    # A row with nothing to see has softmax 1/S everywhere; the second mask makes it 0.
    p = jnp.where(mask, jax.nn.softmax(jnp.where(mask, scores, MASKED), axis=-1), 0.0)
    if key is not None and pattern.dropout_rate > 0:
        places = (
            rows.reshape(B, 1, 1, 1, 1) + jnp.arange(K * G).reshape(K, G, 1, 1),
            query_index[:, None],
            jnp.arange(S),
        )
        kept = keep_mask(key, places, pattern.dropout_rate)
        p = jnp.where(kept, p / (1 - pattern.dropout_rate), 0.0)
    out = jnp.einsum("bkgts,bskd->btkgd", p.astype(v.dtype), values, preferred_element_type=jnp.float32)
    return out.reshape(B, T, K * G * D).astype(q.dtype)
