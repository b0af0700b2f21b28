"""The backward kernel: gradients of q, k and v for the heads of one 128-lane block, one batch row, the whole sequence.

From o, its gradient do and the log-sum-exp L (base 2), with the forward's transposed scores s = k q'^T [keys, queries]
made again, for a tile of keys over its tiles of queries (Dao et al. 2022):

    p = 2^(s - L)                              dv += p do                delta = sum_d o do  [1, queries]
    ds = p (v do^T - delta) [(1 - tanh^2)]     dk += ds q'               dq^T += k^T ds  [D, queries]

q' was q times `before_exponent`, so dk is divided by what is not the scale in it; dq is multiplied by the scale. Both
are turned back at the end. dq^T of the whole sequence stays in vector memory, and so do dk and dv of a key block while
its query blocks follow one another.

Grid: (batch, key blocks, query blocks to a key block). Queries of a key tile: first the square on the diagonal, in
strips of queries with the keys at or before them, then the tiles that see the keys whole, then the far edge, masked.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from trainer.attention.flash import lanes as on_lanes
from trainer.attention.flash import operands
from trainer.attention.flash.bounds import backward_bounds
from trainer.attention.flash.lanes import keep_head
from trainer.attention.flash.operands import LOG2E, MASKED, NN, NT, Interpret, Ref, Shape, Step, product

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]
"""q, k, v, o and the log-sum-exp of `forward`."""


def backward(
    residuals: Residuals, do: jax.Array, first: jax.Array, table: jax.Array | None, shape: Shape, interpret: Interpret
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of q, k and v, in their shapes and dtypes; the arguments are `forward`'s, and do is o's gradient."""
    q, k, v, o, lse = residuals
    lanes, tile, T = shape.lanes, shape.tiles, shape.seq
    specs = operands.Specs.of(shape)
    on_side, upright = pltpu.VMEM((lanes.width, T), k.dtype), pltpu.VMEM((T, lanes.width), k.dtype)
    sums = [pltpu.VMEM((lanes.width, T), jnp.float32)] * 2 if lanes.steps > 1 else [None, None]
    scratch = [
        *(upright, on_side, upright, on_side, on_side),
        pltpu.VMEM((lanes.per, T), jnp.float32),
        pltpu.VMEM((lanes.width, T), jnp.float32),
        *[pltpu.VMEM((lanes.width, tile.keys), jnp.float32)] * 2,
        *sums,
    ]
    return pl.pallas_call(
        partial(_kernel, shape=shape),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(q.shape[0], lanes.kv_blocks, lanes.steps),
            in_specs=[
                *(specs.queries, specs.keys, specs.keys, specs.queries),
                *(specs.statistics, specs.queries, specs.row, specs.table),
            ],
            out_specs=[specs.queries, specs.keys, specs.keys],
            scratch_shapes=scratch,
        ),
        out_shape=[operands.like(x.shape, x.dtype, x) for x in (q, k, v)],
        compiler_params=operands.compiler_params(shape),
        interpret=interpret,
        name="flash_backward",
    )(backward_bounds(first, tile), q, k, v, o, lse, do, first[:, None], table)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Memory:
    """The blocks that one grid step works on: inputs, outputs, and what it makes of them."""

    bounds: Ref
    q: Ref
    k: Ref
    v: Ref
    o: Ref
    lse: Ref
    do: Ref
    first: Ref
    table: Ref | None
    dq: Ref
    dk: Ref
    dv: Ref
    keys: Ref
    """[T, W] k turned, in the places of its queries."""
    keys_t: Ref
    """[W, T] the same."""
    values: Ref
    """[T, W] v in the places of its queries."""
    queries_t: Ref
    """[W, T] q turned and scaled."""
    do_t: Ref
    """[W, T]."""
    delta: Ref
    """float32 [P, T]."""
    dq_t: Ref
    """float32 [W, T]."""
    dk_t: Ref
    """float32 [W, keys] of one key tile."""
    dv_t: Ref
    """float32 [W, keys] of one key tile."""
    dk_sum: Ref | None
    """float32 [W, T] over the query blocks of a key block, where there are several."""
    dv_sum: Ref | None
    """float32 [W, T], likewise."""


def _kernel(*refs: Ref, shape: Shape) -> None:
    """One key block of one batch row, and one query block that uses it."""
    memory, step, tiles = _Memory(*refs), Step.here(), shape.tiles

    def block() -> None:
        def keys() -> None:
            operands.for_tiles(lambda rows: _load_keys(rows, memory, step, shape), tiles.keys, shape)

        operands.once_per_key_block(keys, step, shape)
        operands.for_tiles(lambda rows: _load_queries(rows, memory, step, shape), tiles.queries, shape)

        def key_tile(j: jax.Array, _: None) -> None:
            _key_tile(j, memory, step, shape)
            _write_keys(operands.tile(j, tiles.keys), memory, step, shape)

        lax.fori_loop(0, shape.seq // tiles.keys, key_tile, None)
        operands.for_tiles(lambda rows: _write_queries(rows, memory, shape), tiles.queries, shape)

    operands.when_exists(block, step, shape)


def _load_keys(rows: Any, memory: _Memory, step: Step, shape: Shape) -> None:
    k_t = operands.load_keys(memory.k, rows, memory.table, step, shape)
    memory.keys_t[:, rows] = k_t
    memory.keys[rows] = k_t.T
    memory.values[rows] = operands.load_keys(memory.v, rows, None, step, shape).T


def _load_queries(rows: Any, memory: _Memory, step: Step, shape: Shape) -> None:
    """A query tile made ready: q', do, delta, and zeros in dq^T."""
    lanes = shape.lanes
    memory.queries_t[:, rows] = operands.load_queries(memory.q, rows, memory.table, step, shape)
    o_t, do_t = (operands.load_outputs(x, rows, step, shape) for x in (memory.o, memory.do))
    memory.do_t[:, rows] = do_t
    both = o_t.astype(jnp.float32) * do_t.astype(jnp.float32)
    for h in range(lanes.per):
        memory.delta[h : h + 1, rows] = both[lanes.place(h)].sum(0, keepdims=True)
    memory.dq_t[:, rows] = jnp.zeros_like(both)


def _key_tile(j: jax.Array, memory: _Memory, step: Step, shape: Shape) -> None:
    """Makes dk^T and dv^T of key tile j, and adds its share to dq^T."""
    lanes, tiles = shape.lanes, shape.tiles
    columns = operands.tile(j, tiles.keys)
    k, v, k_t = memory.keys[columns], memory.values[columns], memory.keys_t[:, columns]
    memory.dk_t[...] = jnp.zeros_like(memory.dk_t)
    memory.dv_t[...] = jnp.zeros_like(memory.dv_t)

    def add(query: jax.Array, size: int, *, masked: bool, until: int = tiles.keys) -> None:
        """Adds what `size` queries give to the keys of the tile before `until`, and those to the queries."""
        rows = pl.ds(pl.multiple_of(query, size), size)
        q_t, do_t = memory.queries_t[:, rows], memory.do_t[:, rows]
        seen = operands.visible(memory.first[0, :, rows], query, j * tiles.keys, until) if masked else None
        for h in range(lanes.per):
            place, row = lanes.place(h), slice(h, h + 1)
            s = product(k[:until], keep_head(q_t, h, lanes), NN)
            dp = product(v[:until], keep_head(do_t, h, lanes), NN) - memory.delta[row, rows]
            p, ds = _score_gradient(s, dp, memory.lse[0, 0, row, rows], seen, shape.pattern.softcap, k.dtype)
            memory.dv_t[place, :until] += product(do_t[place], p, NT)
            memory.dk_t[place, :until] += product(q_t[place], ds, NT)
            memory.dq_t[place, rows] += product(k_t[place, :until], ds, NN)

    at = 2 * (step.batch * (shape.seq // tiles.keys) + j)
    below, full, end = (j + 1) * (tiles.keys // tiles.queries), memory.bounds[at], memory.bounds[at + 1]
    for since in range(0, tiles.keys, tiles.diagonal):
        add(j * tiles.keys + since, tiles.diagonal, masked=True, until=since + tiles.diagonal)
    lax.fori_loop(below, full, lambda i, _: add(i * tiles.queries, tiles.queries, masked=False), None)
    lax.fori_loop(full, end, lambda i, _: add(i * tiles.queries, tiles.queries, masked=True), None)


def _score_gradient(
    s: jax.Array, dp: jax.Array, lse: jax.Array, seen: jax.Array | None, softcap: float | None, dtype: Any
) -> tuple[jax.Array, jax.Array]:
    """Gives p and ds [keys, queries] of one head, from k q', v do^T - delta and L, in the dtype of their products."""
    if softcap is not None:
        tanh = jnp.tanh(s)
        s, dp = tanh * (softcap * LOG2E), dp * (1 - tanh * tanh)
    if seen is not None:
        s = jnp.where(seen, s, MASKED)
    p = jnp.exp2(s - lse)
    return p.astype(dtype), (p * dp).astype(dtype)


def _write_keys(rows: Any, memory: _Memory, step: Step, shape: Shape) -> None:
    """Writes dk and dv of a key tile, added to those of the key block's earlier query blocks, when it has several."""
    lanes = shape.lanes
    dk = memory.dk_t[...] * (shape.pattern.scale / shape.before_exponent)
    if memory.table is not None:
        dk = on_lanes.turn(dk, memory.table[:, rows], lanes, back=True)
    for gradient, total, out in ((dk, memory.dk_sum, memory.dk), (memory.dv_t[...], memory.dv_sum, memory.dv)):
        if lanes.moves:
            gradient = on_lanes.gather_back(gradient, step.turn, lanes)
        if total is not None:
            gradient += jnp.where(step.turn == 0, 0.0, total[:, rows])
            total[:, rows] = gradient
        out[0, rows] = gradient.astype(out.dtype).T


def _write_queries(rows: Any, memory: _Memory, shape: Shape) -> None:
    dq = memory.dq_t[:, rows]
    if memory.table is not None:
        dq = on_lanes.turn(dq, memory.table[:, rows], shape.lanes, back=True)
    memory.dq[0, rows] = (dq * shape.pattern.scale).astype(memory.dq.dtype).T
