"""Attention as the textbook writes it: softmax(q k^T / sqrt(D)) v over a masked T x T matrix.

Token t sees token s when s <= t and both lie in the same document. Scores and softmax are float32 whatever the inputs.
"""

import jax
import jax.numpy as jnp

MASKED = -1e30
"""Score of what may not be seen: finite, so that a row with nothing to see gives 0 and not NaN."""


def dense_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array) -> jax.Array:
    """See `trainer.attention.attention`; memory grows with T squared."""
    B, T, H, D = q.shape
    K = k.shape[2]
    grouped = q.reshape(B, T, K, H // K, D)
    scores = jnp.einsum("btkgd,bskd->bkgts", grouped, k, preferred_element_type=jnp.float32) * D**-0.5
    mask = visible(segments, segments, jnp.arange(T), jnp.arange(T))[:, None, None]
    scores = jnp.where(mask, scores, MASKED)
    # A row with nothing to see has softmax 1/T everywhere; the second mask makes it 0.
    probabilities = jnp.where(mask, jax.nn.softmax(scores, axis=-1), 0.0).astype(v.dtype)
    return jnp.einsum("bkgts,bskd->btkgd", probabilities, v).reshape(B, T, H, D)


def visible(
    query_segments: jax.Array, key_segments: jax.Array, query_index: jax.Array, key_index: jax.Array
) -> jax.Array:
    """[B, T, S] bool: may query t look at key s? From [B, T], [B, S], [T] and [S]."""
    same_document = query_segments[:, :, None] == key_segments[:, None, :]
    causal = query_index[:, None] >= key_index[None, :]
    return same_document & causal & (key_segments != 0)[:, None, :]
