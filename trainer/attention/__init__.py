"""Causal self-attention within documents: one signature, several ways to compute it."""

from typing import Literal

import jax

from trainer.attention.blockwise import blockwise_attention
from trainer.attention.dense import dense_attention

AttentionKind = Literal["dense", "blockwise"]


def attention(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, *, kind: AttentionKind, block: int
) -> jax.Array:
    """Attends to earlier tokens of the same document, scaled by head_dim ** -0.5.

    Args:
        q: [B, T, H, D] queries.
        k: [B, T, K, D] keys; query head h uses key head h // (H // K).
        v: [B, T, K, D] values.
        segments: [B, T] int document numbers; 0 is padding, whose output is 0.
        kind: "dense" holds all T x T scores; "blockwise" T x block of them.
        block: keys per block of "blockwise"; need not divide T.

    Returns:
        [B, T, H, D] in q's dtype.
    """
    if kind == "dense":
        return dense_attention(q, k, v, segments)
    return blockwise_attention(q, k, v, segments, block)


__all__ = ["AttentionKind", "attention", "blockwise_attention", "dense_attention"]
