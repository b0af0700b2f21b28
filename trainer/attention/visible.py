"""Which query may look at which key: causal, inside one document, and within the window."""

import jax

from trainer.attention.pattern import Pattern

MASKED = -1e30
"""Score of what may not be seen: finite, so that a row with nothing to see gives 0 and not NaN."""


def visible(
    query_segments: jax.Array,
    key_segments: jax.Array,
    query_index: jax.Array,
    key_index: jax.Array,
    pattern: Pattern,
) -> jax.Array:
    """Query i sees key j when both lie in one document that is not padding, and i - window < j <= i.

    Args:
        query_segments: [..., T] int document numbers, 0 for padding.
        key_segments: [..., S] of the keys.
        query_index: [T] indices in the window.
        key_index: [S] of the keys.
        pattern: of which the window counts.

    Returns:
        [..., T, S] bool.
    """
    same_document = query_segments[..., :, None] == key_segments[..., None, :]
    distance = query_index[:, None] - key_index[None, :]
    near = distance >= 0
    if pattern.window is not None:
        near &= distance < pattern.window
    return same_document & near & (key_segments != 0)[..., None, :]
