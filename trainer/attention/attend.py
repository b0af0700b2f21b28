"""Rotation, keys and values from the other devices, and the kernel that the job resolved to.

A sequence axis splits the window's tokens: every device has some queries and needs the keys before them. Keys and
values are gathered whole, once, and their gradients come back as a sum scattered the same way (docs/decisions/0011).
"""

from typing import Protocol

import jax

from trainer.attention.blockwise import blockwise_attention
from trainer.attention.cudnn import cudnn_attention
from trainer.attention.dense import dense_attention
from trainer.attention.pattern import Pattern
from trainer.attention.rotary import Tables, rotate
from trainer.collectives import index_along
from vishwamai.contract.resolved import AttentionKind


class How(Protocol):
    """What of a computation attention looks at."""

    @property
    def attention(self) -> AttentionKind:
        """The kernel."""

    @property
    def attention_block(self) -> int:
        """Keys per block of "blockwise"."""


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: jax.Array,
    rotary: Tables,
    pattern: Pattern,
    how: How,
    rows: jax.Array,
    key: jax.Array | None,
) -> jax.Array:
    """Each token's mixture of the values before it in its document.

    Args:
        q: [B, T, heads * D] queries of this device's tokens, not rotated yet.
        k: [B, T, kv_heads * D] their keys.
        v: [B, T, kv_heads * D] their values.
        segments: int32 [B, T] document numbers; 0 is padding, whose output is 0.
        rotary: tables of this device's positions.
        pattern: who sees whom.
        how: names the kernel.
        rows: int32 [B] numbers of the sequences within the step, for dropout.
        key: uint32 words for dropout of attention weights, other ones for every layer and step; None: no dropout.

    Returns:
        [B, T, heads * D] in q's dtype.
    """
    if how.attention == "flash":
        from trainer.attention.flash import flash_attention  # brings Pallas, which only TPUs need

        return flash_attention(q, k, v, segments, rotary, pattern)
    if how.attention == "splash":
        from trainer.attention.splash import splash_attention

        return splash_attention(q, k, v, segments, rotary, pattern)
    q, k = rotate(q, rotary, pattern.head_dim), rotate(k, rotary, pattern.head_dim)
    if how.attention == "cudnn":
        return cudnn_attention(q, k, v, segments, pattern)
    key_segments: jax.Array = segments
    offset: jax.Array | int = 0
    if jax.lax.axis_size("sequence") > 1:
        offset = q.shape[1] * index_along("sequence")
        k, v, key_segments = (jax.lax.all_gather(x, "sequence", axis=1, tiled=True) for x in (k, v, segments))
    # Heads are numbered over all sequences and devices: what is dropped does not depend on the mesh.
    rows = (rows * jax.lax.axis_size("model") + index_along("model")) * pattern.heads
    if how.attention == "dense":
        return dense_attention(q, k, v, segments, key_segments, offset, rows, key, pattern)
    return blockwise_attention(q, k, v, segments, key_segments, offset, rows, key, pattern, how.attention_block)
