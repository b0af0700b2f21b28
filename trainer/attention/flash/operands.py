"""What the forward and the backward kernel share: their blocks of memory, and how q, k and v are made ready in it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from trainer.attention.flash import lanes as on_lanes
from trainer.attention.flash.bounds import NEVER as NEVER
from trainer.attention.flash.lanes import Lanes
from trainer.attention.flash.tiles import Tile
from trainer.attention.pattern import Pattern

LOG2E = math.log2(math.e)
MASKED = -1e30
"""Score of what may not be seen: finite, so that no difference of two is NaN."""
SEES_NOTHING = 1e30
"""Log-sum-exp of a query that sees nothing: 2 ** (score - this) is 0."""

Contraction = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]
NT: Contraction = (((1,), (1,)), ((), ()))
NN: Contraction = (((1,), (0,)), ((), ()))
TN: Contraction = (((0,), (0,)), ((), ()))

Ref = Any
"""A block of memory in a kernel; Pallas has no public type for it."""
Interpret = bool | pltpu.InterpretParams
"""Whether to run as plain XLA, off the TPU, or in a simulation of its memory."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Everything about a kernel that is known when it is traced."""

    pattern: Pattern
    seq: int
    tiles: Tile
    rotates: bool
    buffers: int
    """Copies of each block of memory: 2 let a grid step's copies run beside the work on the one before."""
    vector_memory: int
    """Bytes that the kernel may use."""

    @property
    def lanes(self) -> Lanes:
        """How the heads lie in blocks of lanes."""
        return Lanes.of(self.pattern)

    @property
    def before_exponent(self) -> float:
        """Factor of q that makes q.k the exponent of 2, or, with a soft-cap, what tanh takes."""
        return self.pattern.scale * (LOG2E if self.pattern.softcap is None else 1 / self.pattern.softcap)


@dataclass(frozen=True, slots=True)
class Step:
    """Where in its grid a kernel stands: batch row, key block, and the how-manieth of its query blocks."""

    batch: jax.Array
    keys: jax.Array
    turn: jax.Array

    @classmethod
    def here(cls) -> "Step":
        """Read at the top of a kernel: interpret mode knows it nowhere else."""
        return cls(*(pl.program_id(axis) for axis in range(3)))

    def queries(self, lanes: Lanes) -> jax.Array:
        """The query block; it may lie beyond the last."""
        return self.keys * lanes.group + self.turn


@dataclass(frozen=True, slots=True)
class Specs:
    """The blocks of memory that a grid step (batch b, key block c, step g) works on."""

    queries: pl.BlockSpec
    """[1, T, W] of [B, T, N*D]."""
    keys: pl.BlockSpec
    """[1, T, W] of [B, T, K*D]."""
    row: pl.BlockSpec
    """[1, 1, T] of [B, 1, T]."""
    statistics: pl.BlockSpec
    """[1, 1, P, T] of [B, blocks, P, T]."""
    table: pl.BlockSpec | None
    """[D, T], the same for all."""

    @classmethod
    def of(cls, shape: Shape) -> "Specs":
        """The blocks of a kernel."""
        lanes, T = shape.lanes, shape.seq

        def block(c: jax.Array, g: jax.Array) -> jax.Array:
            return jnp.minimum(c * lanes.group + g, lanes.blocks - 1)

        copies = pl.Buffered(shape.buffers)

        def spec(size: tuple[int, ...], index: Callable[..., tuple[Any, ...]], copies: pl.Buffered) -> pl.BlockSpec:
            return pl.BlockSpec(size, lambda b, c, g, _: index(b, c, g), pipeline_mode=copies)

        return cls(
            queries=spec((1, T, lanes.width), lambda b, c, g: (b, 0, block(c, g)), copies),
            keys=spec((1, T, lanes.width), lambda b, c, g: (b, 0, c), copies),
            row=spec((1, 1, T), lambda b, c, g: (b, 0, 0), copies),
            statistics=spec((1, 1, lanes.per, T), lambda b, c, g: (b, block(c, g), 0, 0), copies),
            table=spec((lanes.head_dim, T), lambda b, c, g: (0, 0), pl.Buffered(1)) if shape.rotates else None,
        )


def like(shape: tuple[int, ...], dtype: Any, x: jax.Array) -> jax.ShapeDtypeStruct:
    """An output that varies over the same mesh axes as x."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(x).manual_axis_type)


def compiler_params(shape: Shape) -> pltpu.CompilerParams:
    """Batch rows and key blocks in any order, so that two cores can share them; query blocks of a key block in turn."""
    return pltpu.CompilerParams(
        dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=shape.vector_memory
    )


def product(a: jax.Array, b: jax.Array, contraction: Contraction) -> jax.Array:
    """float32 product; of float32 operands at full precision, not in one bfloat16 pass."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return lax.dot_general(a, b, contraction, precision=precision, preferred_element_type=jnp.float32)


def tile(index: jax.Array, size: int) -> Any:
    """The rows of a tile."""
    return pl.ds(pl.multiple_of(index * size, size), size)


def visible(first: jax.Array, query: jax.Array, key: jax.Array, keys: int) -> jax.Array:
    """May queries query, query + 1, .. see keys key, key + 1, ..? bool [keys, queries]; first is int32 [1, queries]."""
    shape = (keys, first.shape[1])
    at = key + lax.broadcasted_iota(jnp.int32, shape, 0)
    return (at >= first) & (at <= query + lax.broadcasted_iota(jnp.int32, shape, 1))


def when_exists(work: Callable[[], None], step: Step, shape: Shape) -> None:
    """Runs work unless the grid step's query block lies beyond the last head."""
    if shape.lanes.ragged:
        pl.when(step.queries(shape.lanes) < shape.lanes.blocks)(work)
    else:
        work()


def load_queries(q: Ref, rows: Any, table: Ref | None, step: Step, shape: Shape) -> jax.Array:
    """A tile of q as [W, rows], turned, and scaled for the exponent."""
    x = load_outputs(q, rows, step, shape).astype(jnp.float32)
    if table is not None:
        x = on_lanes.turn(x, table[:, rows], shape.lanes)
    return (x * shape.before_exponent).astype(q.dtype)


def load_outputs(ref: Ref, rows: Any, step: Step, shape: Shape) -> jax.Array:
    """A tile of q, o or do as [W, rows]."""
    lanes, x = shape.lanes, ref[0, rows].T
    return on_lanes.keep_valid(x, step.queries(lanes), lanes.heads, lanes) if lanes.ragged else x


def load_keys(k: Ref, rows: Any, table: Ref | None, step: Step, shape: Shape) -> jax.Array:
    """A tile of k (or, without a table, of v) as [W, rows], turned, and in the places of its queries."""
    lanes, x = shape.lanes, k[0, rows].T
    if lanes.ragged:
        x = on_lanes.keep_valid(x, step.keys, lanes.kv_heads, lanes)
    if table is not None:
        x = on_lanes.turn(x.astype(jnp.float32), table[:, rows], lanes).astype(k.dtype)
    return on_lanes.arrange(x, step.turn, lanes) if lanes.moves else x


def for_tiles(tile_work: Callable[[Any], None], size: int, shape: Shape) -> None:
    """Runs tile_work on the rows of each tile of the sequence."""
    lax.fori_loop(0, shape.seq // size, lambda i, _: tile_work(tile(i, size)), None)


def once_per_key_block(fill: Callable[[], None], step: Step, shape: Shape) -> None:
    """Runs fill when what it fills would change: with the key block, and with its query blocks when keys move."""
    if shape.lanes.moves or shape.lanes.steps == 1:
        fill()
    else:
        pl.when(step.turn == 0)(fill)
