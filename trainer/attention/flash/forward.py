"""The forward kernel: softmax(scale q k^T) v for the heads of one 128-lane block, one batch row, the whole sequence.

Scores are kept transposed, keys down and queries across, so that the softmax's maximum, sum and rescaling are rows
[1, queries] which broadcast along the registers for nothing. For a tile of queries, over its tiles of keys, in base 2
with q' = q scale log2(e) (Milakov and Gimelshein 2018; Dao et al. 2022):

    s = k q'^T [keys, queries]     m' = max(m, max s)     p = 2^(s - m')     a = 2^(m - m')
    l <- l a + sum p               o^T <- o^T a + v^T p   [D, queries]       m <- m'

and finally o = (o^T / l)^T and the row's log-sum-exp in base 2, m + log2 l. With a soft-cap c: q' = q scale / c and
s = c log2(e) tanh(k q'^T). A query that sees nothing gives 0, and a log-sum-exp so large that the backward's p is 0.

Grid: (batch, key blocks, query blocks to a key block). Keys of a query tile: first the tiles at the left edge, masked,
then those seen whole, then the square on the diagonal in strips of keys, each for the queries at or below it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from trainer.attention.flash import operands
from trainer.attention.flash.bounds import NEVER, forward_bounds
from trainer.attention.flash.lanes import keep_head
from trainer.attention.flash.operands import LOG2E, MASKED, NN, SEES_NOTHING, Interpret, Ref, Shape, Step, product

Softmax = tuple[tuple[jax.Array, jax.Array], ...]
"""Of each head of the block: the maximum m and the sum l so far, float32 [1, queries]."""


def forward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    first: jax.Array,
    table: jax.Array | None,
    shape: Shape,
    interpret: Interpret,
) -> tuple[jax.Array, jax.Array]:
    """Output [B, T, N*D] in q's dtype and the log-sum-exp in base 2, float32 [B, blocks, P, T].

    Args:
        q: [B, T, N*D] queries.
        k: [B, T, K*D] keys.
        v: [B, T, K*D] values.
        first: int32 [B, T] first key that each query sees (`first_visible`).
        table: float32 [D, T] (`rotary_table`), or None where q and k are turned already or never.
        shape: what is known at trace time; its tiles divide T.
        interpret: run as plain XLA, off the TPU.
    """
    lanes, tile = shape.lanes, shape.tiles
    specs = operands.Specs.of(shape)
    B, T, _ = q.shape
    scratch = [
        pltpu.VMEM((lanes.width, tile.queries), jnp.float32),
        pltpu.VMEM((T, lanes.width), k.dtype),
        pltpu.VMEM((lanes.width, T), v.dtype),
    ]
    return pl.pallas_call(
        partial(_kernel, shape=shape),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(B, lanes.kv_blocks, lanes.steps),
            in_specs=[specs.queries, specs.keys, specs.keys, specs.row, specs.table],
            out_specs=[specs.queries, specs.statistics],
            scratch_shapes=scratch,
        ),
        out_shape=[
            operands.like(q.shape, q.dtype, q),
            operands.like((B, lanes.blocks, lanes.per, T), jnp.float32, q),
        ],
        compiler_params=operands.compiler_params(shape),
        interpret=interpret,
        name="flash_forward",
    )(forward_bounds(first, tile), q, k, v, first[:, None], table)


def _kernel(
    bounds: Ref, q: Ref, k: Ref, v: Ref, first: Ref, table: Ref | None, o: Ref, lse: Ref,
    acc: Ref, keys: Ref, values: Ref, shape: Shape,
) -> None:  # fmt: skip
    """One key block of one batch row, and one query block that uses it."""
    step, tiles = Step.here(), shape.tiles

    def fill(rows: Any) -> None:
        keys[rows] = operands.load_keys(k, rows, table, step, shape).T
        values[:, rows] = operands.load_keys(v, rows, None, step, shape)

    def block() -> None:
        operands.once_per_key_block(lambda: operands.for_tiles(fill, tiles.keys, shape), step, shape)

        def queries(i: jax.Array, _: None) -> None:
            _query_tile(i, bounds, q, keys, values, first, table, o, lse, acc, step, shape)

        lax.fori_loop(0, shape.seq // tiles.queries, queries, None)

    operands.when_exists(block, step, shape)


def _query_tile(
    i: jax.Array, bounds: Ref, q: Ref, keys: Ref, values: Ref, first: Ref, table: Ref | None, o: Ref, lse: Ref,
    acc: Ref, step: Step, shape: Shape,
) -> None:  # fmt: skip
    lanes, tiles = shape.lanes, shape.tiles
    rows = operands.tile(i, tiles.queries)
    query = operands.load_queries(q, rows, table, step, shape)
    sees_from = first[0, :, rows]
    acc[...] = jnp.zeros_like(acc)

    def add(key: jax.Array, size: int, softmax: Softmax, *, masked: bool, since: int = 0) -> Softmax:
        """Adds `size` keys to the queries of the tile from `since` on."""
        columns = pl.ds(pl.multiple_of(key, size), size)
        k, v = keys[columns], values[:, columns]
        seen = operands.visible(sees_from[:, since:], i * tiles.queries + since, key, size) if masked else None
        heads = ((h, keep_head(query, h, lanes)) for h in range(lanes.per))
        return tuple(_head_tile(k, v, q_h, seen, softmax[h], acc, since, h, shape) for h, q_h in heads)

    at = 2 * (step.batch * (shape.seq // tiles.queries) + i)
    edge, full, diagonal = bounds[at], bounds[at + 1], i * (tiles.queries // tiles.keys)
    softmax: Softmax = ((jnp.full((1, tiles.queries), MASKED), jnp.zeros((1, tiles.queries))),) * lanes.per
    softmax = lax.fori_loop(edge, full, lambda j, s: add(j * tiles.keys, tiles.keys, s, masked=True), softmax)
    softmax = lax.fori_loop(full, diagonal, lambda j, s: add(j * tiles.keys, tiles.keys, s, masked=False), softmax)
    for since in range(0, tiles.queries, tiles.diagonal):
        softmax = add(i * tiles.queries + since, tiles.diagonal, softmax, masked=True, since=since)
    for h, (highest, total) in enumerate(softmax):
        sees, place = sees_from < NEVER, lanes.place(h)
        acc[place] = acc[place] * jnp.where(sees, 1 / jnp.where(sees, total, 1.0), 0.0)
        lse[0, 0, h : h + 1, rows] = jnp.where(sees, highest + jnp.log2(total), SEES_NOTHING)
    o[0, rows] = acc[...].astype(o.dtype).T


def _head_tile(
    k: jax.Array, v: jax.Array, query: jax.Array, seen: jax.Array | None, softmax: tuple[jax.Array, jax.Array],
    acc: Ref, since: int, h: int, shape: Shape,
) -> tuple[jax.Array, jax.Array]:  # fmt: skip
    """Adds a tile of keys to one head's running softmax and to its rows of acc, o^T [W, queries], from a query on."""
    before, sum_before = (x[:, since:] for x in softmax)
    s = product(k, query[:, since:], NN)
    if shape.pattern.softcap is not None:
        s = jnp.tanh(s) * (shape.pattern.softcap * LOG2E)
    if seen is not None:
        s = jnp.where(seen, s, MASKED)
    highest = jnp.maximum(before, s.max(0, keepdims=True))
    p = jnp.exp2(s - highest)
    rescale = jnp.exp2(before - highest)
    place = shape.lanes.place(h)
    acc[place, since:] = acc[place, since:] * rescale + product(v[place], p.astype(v.dtype), NN)
    total = sum_before * rescale + p.sum(0, keepdims=True)
    if since == 0:
        return highest, total
    left, sum_left = (x[:, :since] for x in softmax)
    return jnp.concatenate([left, highest], 1), jnp.concatenate([sum_left, total], 1)
