"""The two kernels as one differentiable function of q, k and v."""

from functools import partial

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.experimental.pallas import tpu as pltpu

from trainer.attention.flash.backward import Residuals, backward
from trainer.attention.flash.bounds import first_visible
from trainer.attention.flash.forward import forward
from trainer.attention.flash.lanes import rotary_table
from trainer.attention.flash.operands import Interpret, Shape
from trainer.attention.flash.tiles import plan, supports, this_generation
from trainer.attention.pattern import Pattern
from trainer.attention.rotary import Tables
from trainer.varying import vary_like, varying_axes

Kept = tuple[Residuals, jax.Array, jax.Array | None]
"""What the backward pass needs: the residuals, the first visible keys and the rotary table."""


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

    Raises:
        ValueError: the kernels do not take this (`supports`).
    """
    T, generation = q.shape[1], this_generation()
    why_not = supports(pattern, T, q.dtype, generation)
    how = None if why_not else plan(pattern, T, q.dtype.itemsize, generation)
    if how is None:
        raise ValueError(f"flash attention cannot run: {why_not}")
    shapes = tuple(
        Shape(pattern, T, tile, tables is not None, how.buffers, how.vector_memory)
        for tile in (how.tiles.forward, how.tiles.backward)
    )
    first = vary_like(first_visible(segments, pattern.window), q)
    table = None if tables is None else vary_like(rotary_table(tables), q)
    # Within a mesh only the simulated TPU runs: plain interpretation trips over what varies and what does not.
    return _attend(
        q, k, v, first, table, shapes, pltpu.InterpretParams() if interpret and varying_axes(q) else interpret
    )


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array, table: jax.Array | None, shapes: tuple[Shape, Shape],
    interpret: Interpret,
) -> jax.Array:  # fmt: skip
    return forward(q, k, v, first, table, shapes[0], interpret)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array, table: jax.Array | None, shapes: tuple[Shape, Shape],
    interpret: Interpret,
) -> tuple[jax.Array, Kept]:  # fmt: skip
    o, lse = forward(q, k, v, first, table, shapes[0], interpret)
    o, lse = checkpoint_name(o, "attention_out"), checkpoint_name(lse, "attention_lse")
    return o, ((q, k, v, o, lse), first, table)


def _backward(
    shapes: tuple[Shape, Shape], interpret: Interpret, kept: Kept, do: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None, None]:
    residuals, first, table = kept
    return *backward(residuals, do, first, table, shapes[1], interpret), None, None


_attend.defvjp(_forward, _backward)
