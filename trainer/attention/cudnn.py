"""cuDNN's flash attention on NVIDIA GPUs, through jax.nn.dot_product_attention."""

import jax
import jax.numpy as jnp

from trainer.attention.pattern import Pattern


def cudnn_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, pattern: Pattern) -> jax.Array:
    """See `trainer.attention.attend`; q and k are rotated. Needs bfloat16, head_dim at most 128, no soft-cap.

    Documents are told apart by an additive [B, 1, T, T] bias in q's dtype: cuDNN's own variable lengths need documents
    laid out one by one.
    """
    B, T, _ = q.shape
    heads = q.reshape(B, T, pattern.heads, pattern.head_dim)
    keys, values = (x.reshape(B, T, pattern.kv_heads, pattern.head_dim) for x in (k, v))
    same_document = (segments[:, :, None] == segments[:, None, :]) & (segments != 0)[:, None, :]
    # A token of padding may look at itself, or its row would have nothing to see.
    same_document |= jnp.eye(T, dtype=bool)
    mixed = jax.nn.dot_product_attention(
        heads,
        keys,
        values,
        mask=same_document[:, None],
        is_causal=True,
        scale=pattern.scale,
        local_window_size=None if pattern.window is None else (pattern.window - 1, 0),
        implementation="cudnn",
    )
    return jnp.where((segments != 0)[..., None], mixed.reshape(q.shape), 0)
