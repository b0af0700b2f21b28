"""Learning from a teacher's distribution, token by token, without ever holding all logits of either model.

    total = sum_t w_t (a s D_t(p, q) + (1 - a) CE_t),    p = softmax(z / T),    q = softmax(l / T)

with the teacher's logits z and the student's l, CE as in cross_entropy.py, s = T^2 (Hinton et al. 2015). T dD/dl is

    forward_kl   KL(p || q)                          q - p
    reverse_kl   KL(q || p)                          q (log q/p - D)
    jsd          b KL(p || m) + (1 - b) KL(q || m)   (1 - b) q (log q/m - KL(q || m)),    m = b p + (1 - b) q
    uld          sum_i |p_(i) - q_(i)|, sorted       q (g - sum q g),    g = sign(q_(i) - p_(i)) at the i-th's word

b weights the teacher in the mixture, as in TRL. uld (Boizard et al. 2024) compares vocabularies of different sizes, the
smaller one filled up with zeros; its s is 1. Gradients are made in the chunk's forward pass, see chunks.py; the teacher
gets none. Devices along `vocab_axis` hold parts of the vocabularies; only for uld, which sorts, probabilities travel.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from trainer.losses.chunks import (
    Chunk,
    Form,
    Logits,
    cut,
    cut_hidden,
    d_chunk,
    d_weighted_loss,
    logits_of,
    product,
    through_cap,
    weighted_loss,
)
from trainer.varying import cotangent_of, vary_like

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "uld"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What the student is to follow, and how much."""

    divergence: Divergence
    alpha: float
    """Weight of the divergence; the rest is cross-entropy's."""
    jsd_beta: float = 0.5
    """The teacher's share of the mixture, 0 < b < 1."""
    teacher_softcap: float | None = None
    teacher_vocab_axis: str | None = None
    """Mesh axis over which the rows of the teacher's table are split; the student's but for uld."""


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


def distillation(
    student: Output,
    teacher: Output,
    targets: jax.Array,
    weights: jax.Array,
    temperature: jax.Array | float,
    goal: Goal,
    *,
    chunk_tokens: int,
    vocab_axis: str | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    transpose_gradients: bool = False,
) -> tuple[jax.Array, Parts]:
    """The total, of which the student's hidden states and table get gradients; and its parts, which give none.

    Args:
        student: what learns; its V is the teacher's but for uld.
        teacher: what it learns from.
        targets: int [B, T] token ids, anything where the weight is 0.
        weights: [B, T], 0 where the target does not count.
        temperature: scalar T > 0.
        goal: the divergence and its weight.
        chunk_tokens: tokens whose logits exist at one time.
        vocab_axis: mesh axis over which the student's table is split, inside `jax.shard_map`.
        z_loss: as in cross_entropy, and so the others.
        label_smoothing: of the cross-entropy alone.
        softcap: bound on the student's logits.
        transpose_gradients: transpose hidden for real in the table's gradient.

    Raises ValueError when a divergence other than uld meets two sizes of vocabulary.
    """
    sizes = student.table.shape[0], teacher.table.shape[0]
    if goal.divergence != "uld" and sizes[0] != sizes[1]:
        raise ValueError(f"{goal.divergence} compares word by word, and the vocabularies have {sizes} words")
    form = Form(chunk_tokens, vocab_axis, z_loss, label_smoothing, softcap, transpose_gradients, "max")
    return _total(*student, *teacher, targets, weights, jnp.asarray(temperature, jnp.float32), form, goal)


@partial(jax.custom_vjp, nondiff_argnums=(7, 8))
def _total(
    hidden: jax.Array,
    table: jax.Array,
    teacher_hidden: jax.Array,
    teacher_table: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    temperature: jax.Array,
    form: Form,
    goal: Goal,
) -> tuple[jax.Array, Parts]:
    def visit(tokens: tuple[Chunk, jax.Array]) -> tuple[jax.Array, Parts]:
        chunk, followed = tokens
        return _judged(chunk, table, _Teaching(followed, teacher_table, temperature), form, goal)[:2]

    chunks = cut(hidden, targets, weights, form), cut_hidden(teacher_hidden, weights, form)
    return jax.tree.map(jnp.sum, jax.lax.map(visit, chunks))


def _forward(
    hidden: jax.Array,
    table: jax.Array,
    teacher_hidden: jax.Array,
    teacher_table: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    temperature: jax.Array,
    form: Form,
    goal: Goal,
) -> tuple[tuple[jax.Array, Parts], tuple[jax.Array, ...]]:
    def visit(
        d_table: jax.Array, tokens: tuple[Chunk, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, Parts, jax.Array]]:
        chunk, followed = jax.lax.optimization_barrier(tokens)
        teaching = _Teaching(followed, teacher_table, temperature)
        total, parts, logits, gradient = _judged(chunk, table, teaching, form, goal)
        d_logits = through_cap(gradient, logits, form)
        d_table, d_hidden = d_chunk(d_table, d_logits, d_logits, chunk, table, form)
        return d_table, (total, parts, d_hidden)

    shape = table.shape[::-1] if form.transpose_gradients else table.shape
    nothing = vary_like(jnp.zeros(shape, jnp.float32), hidden, table, teacher_hidden, targets, weights)
    chunks = cut(hidden, targets, weights, form), cut_hidden(teacher_hidden, weights, form)
    d_table, (totals, parts, d_hidden) = jax.lax.scan(visit, nothing, chunks)
    d_hidden = d_hidden.reshape(-1, hidden.shape[-1])[: targets.size].reshape(hidden.shape)
    d_table = (d_table.T if form.transpose_gradients else d_table).astype(table.dtype)
    return jax.tree.map(jnp.sum, (totals, parts)), (hidden, table, d_hidden, d_table)


def _backward(
    form: Form, goal: Goal, kept: tuple[jax.Array, ...], d_outputs: tuple[jax.Array, Parts]
) -> tuple[jax.Array | None, ...]:
    hidden, table, *gradients = kept
    d_hidden, d_table = (gradient.astype(jnp.float32) * d_outputs[0] for gradient in gradients)
    return cotangent_of(hidden, d_hidden.astype(hidden.dtype)), cotangent_of(table, d_table), *[None] * 5


_total.defvjp(_forward, _backward)


class _Teaching(NamedTuple):
    hidden: jax.Array
    """[C, H] of the teacher."""
    table: jax.Array
    temperature: jax.Array


def _judged(
    chunk: Chunk, table: jax.Array, teaching: _Teaching, form: Form, goal: Goal
) -> tuple[jax.Array, Parts, Logits, jax.Array]:
    """A chunk's total, its parts, its logits, and the total's gradient by them, float32 [C, V]."""
    logits = logits_of(chunk, table, form)
    student = logits.whole(form)
    teacher = product("ch,vh->cv", teaching.hidden, teaching.table)
    if goal.teacher_softcap is not None:
        teacher = goal.teacher_softcap * jnp.tanh(teacher / goal.teacher_softcap)
    axes = _Axes(form.vocab_axis, goal.teacher_vocab_axis)
    T = teaching.temperature
    found, gradient = _DIVERGENCES[goal.divergence](
        _log_softmax(teacher / T, axes.teacher), _log_softmax(student / T, axes.student), axes, goal
    )
    scale = jnp.ones_like(T) if goal.divergence == "uld" else jnp.square(T)
    w = chunk.weights
    parts = Parts(
        ce=weighted_loss(chunk, logits, form),
        kl=jnp.sum(w * scale * found),
        teacher=jnp.sum(w * _cross_entropy(teacher, chunk.targets, axes.teacher)),
        agreement=jnp.sum(w * (_likeliest(student, axes.student) == _likeliest(teacher, axes.teacher))),
    )
    total = goal.alpha * parts.kl + (1 - goal.alpha) * parts.ce
    gradient *= goal.alpha * w[:, None] * (scale / T)
    return total, parts, logits, gradient + (1 - goal.alpha) * d_weighted_loss(chunk, logits, form)


class _Axes(NamedTuple):
    """Mesh axes that split the vocabularies."""

    student: str | None
    teacher: str | None


def _forward_kl(p: jax.Array, q: jax.Array, axes: _Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    """From logs of probabilities [C, V]: the divergence [C], and T times its gradient by the student's logits."""
    return _sum(jnp.exp(p) * (p - q), axes.student), jnp.exp(q) - jnp.exp(p)


def _reverse_kl(p: jax.Array, q: jax.Array, axes: _Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    found = _sum(jnp.exp(q) * (q - p), axes.student)
    return found, jnp.exp(q) * (q - p - found[:, None])


def _jsd(p: jax.Array, q: jax.Array, axes: _Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    b = goal.jsd_beta
    m = jnp.logaddexp(p + jnp.log(b), q + jnp.log(1 - b))
    of_teacher, of_student = _sum(jnp.exp(p) * (p - m), axes.student), _sum(jnp.exp(q) * (q - m), axes.student)
    return b * of_teacher + (1 - b) * of_student, (1 - b) * jnp.exp(q) * (q - m - of_student[:, None])


def _uld(p: jax.Array, q: jax.Array, axes: _Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    own, all_p, all_q = jnp.exp(q), _whole(jnp.exp(p), axes.teacher), _whole(jnp.exp(q), axes.student)
    size = max(all_p.shape[1], all_q.shape[1])
    order = jnp.argsort(-all_q, axis=1)
    difference = _filled(jnp.take_along_axis(all_q, order, axis=1), size) - _filled(-jnp.sort(-all_p, axis=1), size)
    signs = jnp.take_along_axis(jnp.sign(difference[:, : order.shape[1]]), jnp.argsort(order, axis=1), axis=1)
    if axes.student is not None:
        start = own.shape[1] * jax.lax.axis_index(axes.student)
        signs = jax.lax.dynamic_slice_in_dim(signs, start, own.shape[1], axis=1)
    return jnp.sum(jnp.abs(difference), axis=1), own * (signs - _sum(own * signs, axes.student)[:, None])


_DIVERGENCES = {"forward_kl": _forward_kl, "reverse_kl": _reverse_kl, "jsd": _jsd, "uld": _uld}


def _filled(x: jax.Array, size: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, size - x.shape[1])))


def _whole(x: jax.Array, axis: str | None) -> jax.Array:
    """[C, V] of all devices along an axis, known to be the same on each."""
    if axis is None:
        return x
    devices, share = jax.lax.axis_size(axis), x.shape[1]
    place = vary_like(jnp.zeros((x.shape[0], devices * share), x.dtype), x)
    placed = jax.lax.dynamic_update_slice_in_dim(place, x, share * jax.lax.axis_index(axis), axis=1)
    return jax.lax.psum(placed, axis)


def _sum(x: jax.Array, axis: str | None) -> jax.Array:
    """[C] sums over the whole vocabulary."""
    total = jnp.sum(x, axis=-1)
    return total if axis is None else jax.lax.psum(total, axis)


def _log_sum(logits: jax.Array, axis: str | None) -> jax.Array:
    """[C] log of the sum of exponentials over the whole vocabulary."""
    highest = jnp.max(logits, axis=-1)
    if axis is not None:
        highest = jax.lax.pmax(highest, axis)
    return highest + jnp.log(_sum(jnp.exp(logits - highest[:, None]), axis))


def _log_softmax(logits: jax.Array, axis: str | None) -> jax.Array:
    return logits - _log_sum(logits, axis)[:, None]


def _words(logits: jax.Array, axis: str | None) -> jax.Array:
    """int32 [V] token ids of this device's logits."""
    words = jnp.arange(logits.shape[1], dtype=jnp.int32)
    return words if axis is None else words + logits.shape[1] * jax.lax.axis_index(axis)


def _cross_entropy(logits: jax.Array, targets: jax.Array, axis: str | None) -> jax.Array:
    is_target = targets[:, None] == _words(logits, axis)
    return _log_sum(logits, axis) - _sum(jnp.where(is_target, logits, 0.0), axis)


def _likeliest(logits: jax.Array, axis: str | None) -> jax.Array:
    """int32 [C] token ids; the least of several that are equally likely."""
    highest = jnp.max(logits, axis=-1, keepdims=True)
    if axis is not None:
        highest = jax.lax.pmax(highest, axis)
    found = jnp.min(jnp.where(logits == highest, _words(logits, axis), jnp.iinfo(jnp.int32).max), axis=-1)
    return found if axis is None else jax.lax.pmin(found, axis)
