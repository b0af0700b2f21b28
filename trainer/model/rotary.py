"""Rotary position embedding (Su et al. 2021), half-split form.

Feature i and feature i + D/2 of a head form a plane that turns by the angle position * theta ** (-2i / D):

    [x1, x2] -> [x1 cos - x2 sin, x2 cos + x1 sin]

so that a query and a key meet at an angle that depends only on how far apart they are. Angles are float32: in bfloat16
positions beyond 256 would already be rounded.
"""

import jax
import jax.numpy as jnp

Tables = tuple[jax.Array, jax.Array]
"""cos and sin, float32 [B, T, 1, D/2]."""


def rotary_tables(positions: jax.Array, head_dim: int, theta: float) -> Tables:
    """Tables for int positions [B, T]."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]


def rotate(x: jax.Array, tables: Tables) -> jax.Array:
    """Turns [B, T, heads, D] by its positions; computed in float32, returned in x's dtype."""
    cos, sin = tables
    x1, x2 = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1).astype(x.dtype)
