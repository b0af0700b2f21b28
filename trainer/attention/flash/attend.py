"""The two kernels as one differentiable function of q, k and v."""

from functools import partial

import jax
from jax.ad_checkpoint import checkpoint_name

from trainer.attention.flash.backward import Residuals, backward
from trainer.attention.flash.bounds import first_visible
from trainer.attention.flash.forward import forward
from trainer.attention.flash.lanes import rotary_table
from trainer.attention.flash.operands import Shape
from trainer.attention.flash.tiles import this_generation, tuned, vector_memory
from trainer.attention.pattern import Pattern

Tables = tuple[jax.Array, jax.Array]
"""cos and sin, float32 [T, D/2]."""


def flash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: jax.Array,
    tables: Tables | None,
    pattern: Pattern,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Attention by the pattern, in two Pallas TPU kernels; see `supports` for what they take.

    Under jax.checkpoint, the output is named "attention_out" and the log-sum-exp "attention_lse": with both saved the
    forward kernel does not run again.

    Args:
        q: [B, T, N*D] queries as the projection leaves them.
        k: [B, T, K*D] keys.
        v: [B, T, K*D] values.
        segments: int [B, T] document numbers, 0 padding (output 0); the tokens of a document are neighbours.
        tables: cos and sin, float32 [T, D/2], by which q and k are turned in the kernel; None turns nothing.
        pattern: who sees whom.
        interpret: run the kernels as plain XLA, off the TPU.

    Returns:
        [B, T, N*D] in q's dtype.
    """
    generation = this_generation()
    sizes = tuned(pattern, generation)
    T = q.shape[1]
    shapes = tuple(
        Shape(pattern, T, tile.within(T), tables is not None, vector_memory(generation))
        for tile in (sizes.forward, sizes.backward)
    )
    first = first_visible(segments, pattern.window)
    table = None if tables is None else rotary_table(tables)
    axes = tuple(jax.typeof(q).manual_axis_type.varying)
    first, table = (x if x is None else _vary(x, axes) for x in (first, table))
    return _attend(q, k, v, first, table, shapes, interpret)


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array, table: jax.Array | None, shapes: tuple[Shape, Shape],
    interpret: bool,
) -> jax.Array:  # fmt: skip
    return forward(q, k, v, first, table, shapes[0], interpret)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array, table: jax.Array | None, shapes: tuple[Shape, Shape],
    interpret: bool,
) -> tuple[jax.Array, tuple[Residuals, jax.Array, jax.Array | None]]:  # fmt: skip
    o, lse = forward(q, k, v, first, table, shapes[0], interpret)
    o, lse = checkpoint_name(o, "attention_out"), checkpoint_name(lse, "attention_lse")
    return o, ((q, k, v, o, lse), first, table)


def _backward(
    shapes: tuple[Shape, Shape], interpret: bool, kept: tuple[Residuals, jax.Array, jax.Array | None], do: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None, None]:
    residuals, first, table = kept
    return *backward(residuals, do, first, table, shapes[1], interpret), None, None


_attend.defvjp(_forward, _backward)


def _vary(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """X, taken to differ along the mesh axes along which q does."""
    missing = tuple(axis for axis in axes if axis not in jax.typeof(x).manual_axis_type.varying)
    return jax.lax.pcast(x, missing, to="varying") if missing else x
