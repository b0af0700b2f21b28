"""Which keys each query sees, as ranges, and which tiles of the T x T square those ranges touch.

Documents are contiguous, so query i sees the keys from first(i) = max(start of its document, i - window + 1) to i. One
compare of each key's index with a row of `first` is the whole mask, and the square falls into tiles that hold nothing
(never visited, whether by causality, window or document), tiles that every query sees whole (no mask computed) and
the tiles at the edges.

    forward, per query tile:  key tiles [edge, full) masked, [full, diagonal) whole; then the square on the diagonal
    backward, per key tile:   the square on the diagonal; then query tiles [below, full) whole, [full, end) masked
"""

import jax
import jax.numpy as jnp
from jax import lax

from trainer.attention.flash.tiles import Tile

NEVER = 2**30
"""`first` of padding: no key's index reaches it."""


def first_visible(segments: jax.Array, window: int | None) -> jax.Array:
    """int32 [B, T]: the first key that each query sees; NEVER for padding (segment 0).

    Args:
        segments: int [B, T] document numbers; the tokens of a document are neighbours.
        window: keys that a query sees at most, itself among them.
    """
    index = lax.broadcasted_iota(jnp.int32, segments.shape, 1)
    before = jnp.pad(segments[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    first = lax.cummax(jnp.where(segments != before, index, 0), axis=1)
    if window is not None:
        first = jnp.maximum(first, index - (window - 1))
    return jnp.where(segments == 0, NEVER, first)


def forward_bounds(first: jax.Array, tile: Tile) -> jax.Array:
    """int32 [B * T/queries * 2]: edge and full of each query tile, in key tiles."""
    lowest, highest = _extremes(first, tile.queries)
    diagonal = jnp.arange(lowest.shape[1], dtype=jnp.int32) * (tile.queries // tile.keys)
    edge = jnp.minimum(lowest // tile.keys, diagonal)
    full = jnp.clip(-(-highest // tile.keys), edge, diagonal)
    return jnp.stack([edge, full], axis=-1).reshape(-1)


def backward_bounds(first: jax.Array, tile: Tile) -> jax.Array:
    """int32 [B * T/keys * 2]: full and end of each key tile, in query tiles."""
    lowest, highest = (x[:, None] for x in _extremes(first, tile.queries))
    key = jnp.arange(first.shape[1] // tile.keys, dtype=jnp.int32)[:, None] * tile.keys
    query = jnp.arange(first.shape[1] // tile.queries, dtype=jnp.int32)
    below = (key + tile.keys) // tile.queries
    sees = (lowest < key + tile.keys) & (query >= below)
    in_part = (highest > key) & (query >= below)
    end = jnp.max(jnp.where(sees, query + 1, below), axis=-1)
    full = jnp.minimum(jnp.min(jnp.where(in_part, query, query.size), axis=-1), end)
    return jnp.stack([full, end], axis=-1).reshape(-1)


def _extremes(first: jax.Array, queries: int) -> tuple[jax.Array, jax.Array]:
    """[B, T/queries]: smallest and largest `first` of each query tile."""
    tiles = first.reshape(first.shape[0], -1, queries)
    return tiles.min(-1), tiles.max(-1)
