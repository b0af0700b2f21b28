"""The loop over chunks of a loss that something beside the targets teaches: chunks.py, with a judge in the middle.

    total = sum over chunks of judge(chunk).total,    d total / d logits = judge(chunk).gradient

The judge sees a chunk's tokens, what of the lesson belongs to each of them, and what all chunks share. The student's
hidden states and table get gradients, made while the chunk's logits are at hand; the lesson gets none.
"""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trainer.losses.chunks import Chunk, Form, Logits, cut, cut_tokens, d_chunk, through_cap
from trainer.varying import cotangent_of, vary_like


class Output(NamedTuple):
    """A model's last hidden states and what turns them into logits."""

    hidden: jax.Array
    """[B, T, H], normalized."""
    table: jax.Array
    """[V, H] in hidden's dtype, or this device's rows."""


class Parts(NamedTuple):
    """Sums over tokens of weighted numbers, float32: what the total is made of, and how near the two models are."""

    ce: jax.Array
    """The student's cross-entropy, with z-loss and label smoothing."""
    kl: jax.Array
    """s D, before alpha."""
    teacher: jax.Array
    """The teacher's own cross-entropy."""
    agreement: jax.Array
    """1 where both find the same word likeliest."""


class Verdict(NamedTuple):
    """What is made of one chunk."""

    total: jax.Array
    """float32 scalar."""
    parts: Parts
    logits: Logits
    gradient: jax.Array
    """float32 [C, V]: of the total by the student's logits."""


Judge = Callable[[Chunk, jax.Array, Any, Any, Form, Any], Verdict]
"""(chunk, the student's table, the chunk's share of the lesson, what is shared, form, goal) -> verdict."""


def taught_loss(
    student: Output,
    lesson: Any,
    shared: Any,
    targets: jax.Array,
    weights: jax.Array,
    form: Form,
    judge: Judge,
    goal: Hashable,
) -> tuple[jax.Array, Parts]:
    """The total, of which the student gets gradients; and its parts, which give none.

    Args:
        student: what learns.
        lesson: arrays [B, T, ...]: what belongs to each token.
        shared: arrays of any shape.
        targets: int [B, T] token ids, anything where the weight is 0.
        weights: [B, T], 0 where the target does not count.
        form: of the chunks and of the cross-entropy.
        judge: what makes the verdict.
        goal: handed to the judge.
    """
    return _total(*student, lesson, shared, targets, weights, form, judge, goal)


@partial(jax.custom_vjp, nondiff_argnums=(6, 7, 8))
def _total(
    hidden: jax.Array,
    table: jax.Array,
    lesson: Any,
    shared: Any,
    targets: jax.Array,
    weights: jax.Array,
    form: Form,
    judge: Judge,
    goal: Hashable,
) -> tuple[jax.Array, Parts]:
    def visit(tokens: tuple[Chunk, Any]) -> tuple[jax.Array, Parts]:
        verdict = judge(tokens[0], table, tokens[1], shared, form, goal)
        return verdict.total, verdict.parts

    chunks = cut(hidden, targets, weights, form), cut_tokens(lesson, form)
    return jax.tree.map(jnp.sum, jax.lax.map(visit, chunks))


def _forward(
    hidden: jax.Array,
    table: jax.Array,
    lesson: Any,
    shared: Any,
    targets: jax.Array,
    weights: jax.Array,
    form: Form,
    judge: Judge,
    goal: Hashable,
) -> tuple[tuple[jax.Array, Parts], tuple[jax.Array, ...]]:
    def visit(d_table: jax.Array, tokens: tuple[Chunk, Any]) -> tuple[jax.Array, tuple[jax.Array, Parts, jax.Array]]:
        chunk, share = jax.lax.optimization_barrier(tokens)
        verdict = judge(chunk, table, share, shared, form, goal)
        d_logits = through_cap(verdict.gradient, verdict.logits, form)
        d_table, d_hidden = d_chunk(d_table, d_logits, d_logits, chunk, table, form)
        return d_table, (verdict.total, verdict.parts, d_hidden)

    shape = table.shape[::-1] if form.transpose_gradients else table.shape
    nothing = vary_like(jnp.zeros(shape, jnp.float32), hidden, table, *jax.tree.leaves(lesson), targets, weights)
    chunks = cut(hidden, targets, weights, form), cut_tokens(lesson, form)
    d_table, (totals, parts, d_hidden) = jax.lax.scan(visit, nothing, chunks)
    d_hidden = d_hidden.reshape(-1, hidden.shape[-1])[: targets.size].reshape(hidden.shape)
    d_table = (d_table.T if form.transpose_gradients else d_table).astype(table.dtype)
    return jax.tree.map(jnp.sum, (totals, parts)), (hidden, table, d_hidden, d_table)


def _backward(
    form: Form, judge: Judge, goal: Hashable, kept: tuple[jax.Array, ...], d_outputs: tuple[jax.Array, Parts]
) -> tuple[jax.Array | None, ...]:
    hidden, table, *gradients = kept
    d_hidden, d_table = (gradient.astype(jnp.float32) * d_outputs[0] for gradient in gradients)
    return cotangent_of(hidden, d_hidden.astype(hidden.dtype)), cotangent_of(table, d_table), *[None] * 4


_total.defvjp(_forward, _backward)
