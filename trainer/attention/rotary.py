"""Rotary position embedding (Su et al. 2021), half-split form.

Feature i and feature i + D/2 of a head form a plane that turns by the angle position * f_i, f_i = theta ** (-2i / D):

    [x1, x2] -> [x1 cos - x2 sin, x2 cos + x1 sin]

so that a query and a key meet at an angle that depends only on how far apart they are. That is why a packed document
needs no positions of its own: the index in the window serves as well. Angles are float32: in bfloat16 positions beyond
256 would already be rounded.

Scaling stretches positions over a longer window. linear divides every f_i by `factor`. llama3 (Llama 3.1) does so for
planes whose wavelength 2 pi / f_i is longer than original / low, leaves those shorter than original / high alone, and
blends in between.
"""

import math

import jax
import jax.numpy as jnp

from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import LayerKind, RopeScalingSection

Tables = tuple[jax.Array, jax.Array]
"""cos and sin, float32 [T, D/2], or [B, T, D/2] where every row has positions of its own."""


def rotary_tables(model: ModelSection, kind: LayerKind, positions: jax.Array) -> Tables:
    """Tables of a kind of layer for int positions [T] or [B, T]."""
    local = model.rope_local_theta if kind == "sliding" else None
    theta = model.rope_theta if local is None else local
    frequencies = theta ** (-jnp.arange(0, model.head_dim, 2, dtype=jnp.float32) / model.head_dim)
    if model.rope_scaling is not None and local is None:
        frequencies = _stretched(frequencies, model.rope_scaling)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _stretched(frequencies: jax.Array, scaling: RopeScalingSection) -> jax.Array:
    slow = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slow
    waves = scaling.original_max_seq_len * frequencies / (2 * math.pi)  # in the original window
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = jnp.clip((waves - low) / (high - low), 0.0, 1.0)
    return kept * frequencies + (1.0 - kept) * slow


def rotate(x: jax.Array, tables: Tables, head_dim: int) -> jax.Array:
    """Turns the heads of [B, T, heads * D] by their positions; computed in float32, returned in x's dtype."""
    cos, sin = (table[..., None, :] for table in tables)
    heads = x.reshape(*x.shape[:2], -1, head_dim).astype(jnp.float32)
    x1, x2 = jnp.split(heads, 2, axis=-1)
    turned = jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
