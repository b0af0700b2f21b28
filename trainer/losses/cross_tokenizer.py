"""Learning from a teacher that reads the same text as other tokens, where both have read the same bytes.

    total = sum_t w_t (m_t a (T^2 D_t(P, Q) + R_t) + (1 - m_t a) CE_t)

m_t is 1 where the student's position t has a teacher's beside it (trainer/distill/alignment.py); elsewhere the target
alone teaches. With q = softmax(l / T), p = softmax(z / T), and classes k of tokens (trainer/distill/vocabularies.py)

    Q_k = sum_{v in k} q_v,  P_k likewise        the tokens without a class are one class more if both have any;
                                                 else P and Q are renormalised over the classes
    D   KL(P || Q), its reverse or jsd           exact-match KL on shared tokens: distillation.py, with class for word
    R = sum_i |p_(i) - q_(i)|                    universal logit distillation (Boizard et al. 2024): probabilities of
                                                 the tokens without a class, sorted, the fewer filled up with zeros
    T dD/dl_v = g_k(v) q_v / Q_k(v)              g: T dD/d log-class-logits
    T dR/dl_v = q_v ([v without class] g_v - sum_u q_u g_u),   g_v = sign(q_(i) - p_(i)) at the i-th's token

GOLD (TRL's GOLDTrainer) adds the terms of the shared tokens without the class for all others, which is no divergence,
and weighs by counts of tokens; here the probabilities themselves weigh (docs/decisions/0016). Parts are as elsewhere,
`teacher` being -log of the probability that the teacher gives the target's class. Devices along the vocabulary's axis
hold parts of it: sums of classes travel, and for R probabilities.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from trainer.losses.chunks import Chunk, Form, d_weighted_loss, logits_of, product, weighted_loss
from trainer.losses.distillation import DIVERGENCES, Axes, Goal, log_softmax, log_sum
from trainer.losses.taught import Output, Parts, Verdict, taught_loss
from trainer.varying import vary_like

_NEVER = -1e30
"""A logit of no probability."""


@dataclass(frozen=True, slots=True)
class CrossGoal:
    """What the student is to follow, and how the two vocabularies fall apart."""

    goal: Goal
    """Its divergence is D's."""
    count: int
    """Classes, numbered from 0; the number `count` marks a token without one, `count` + 1 a row that is no token."""
    alone: tuple[int, int]
    """Tokens without a class, which R ranks: of the student, of the teacher."""

    @property
    def compared(self) -> int:
        """Classes in D."""
        return self.count + all(self.alone)


class _Shared(NamedTuple):
    """What all chunks share."""

    table: jax.Array
    temperature: jax.Array
    classes: tuple[jax.Array, jax.Array]
    """int32 of whole vocabularies, the student's first."""
    rest: tuple[jax.Array, jax.Array]
    """int32 tokens without a class."""


def cross_tokenizer(
    student: Output,
    teacher: Output,
    paired: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    temperature: jax.Array | float,
    classes: tuple[jax.Array, jax.Array],
    aim: CrossGoal,
    form: Form,
) -> tuple[jax.Array, Parts]:
    """The total, of which the student's hidden states and table get gradients; and its parts, which give none.

    Args:
        student: what learns.
        teacher: what it learns from; hidden [B, T, H of the teacher] at the student's positions.
        paired: bool [B, T]: m; elsewhere the teacher's hidden state may be anything.
        targets: int [B, T] the student's token ids, anything where the weight is 0.
        weights: [B, T], 0 where the target does not count.
        temperature: scalar T > 0.
        classes: int32 [V] of both vocabularies, the student's first; whole, wherever the tables are split.
        aim: the divergence, but for uld, and its weight.
        form: of the chunks and of the cross-entropy.
    """
    followed = jnp.where(paired, weights, 0).astype(jnp.float32)
    hidden = jnp.where(followed[..., None] == 0, 0, teacher.hidden)
    rest = tuple(
        jnp.nonzero(of_one == aim.count, size=size)[0] for of_one, size in zip(classes, aim.alone, strict=True)
    )
    divided = jnp.minimum(classes[0], aim.count), jnp.minimum(classes[1], aim.count)
    shared = _Shared(teacher.table, jnp.asarray(temperature, jnp.float32), divided, (rest[0], rest[1]))
    return taught_loss(student, (hidden, followed), shared, targets, weights, form, _judge, aim)


def _judge(
    chunk: Chunk, table: jax.Array, lesson: tuple[jax.Array, jax.Array], shared: _Shared, form: Form, aim: CrossGoal
) -> Verdict:
    """`lesson` is the teacher's hidden states [C, H] and the weights [C] with which they are followed."""
    hidden, followed = lesson
    goal, T = aim.goal, shared.temperature
    axes = Axes(form.vocab_axis, goal.teacher_vocab_axis)
    logits = logits_of(chunk, table, form)
    student, teacher = logits.whole(form), product("ch,vh->cv", hidden, shared.table)
    if goal.teacher_softcap is not None:
        teacher = goal.teacher_softcap * jnp.tanh(teacher / goal.teacher_softcap)
    own = tuple(_own(classes, axis) for classes, axis in zip(shared.classes, axes, strict=True))
    one = _class_logits(student / T, own[0], aim.count, axes.student)[:, : aim.compared]
    other = _class_logits(teacher / T, own[1], aim.count, axes.teacher)[:, : aim.compared]
    found, by_class = DIVERGENCES[goal.divergence](
        log_softmax(other, None), log_softmax(one, None), Axes(None, None), goal
    )
    padding = ((0, 0), (0, aim.count + 1 - aim.compared))
    within = jnp.take(jnp.pad(one, padding, constant_values=jnp.inf), own[0], axis=1)
    by_token = jnp.take(jnp.pad(by_class, padding), own[0], axis=1) * jnp.exp(student / T - within)
    sorted_apart, rest_by_token = _rest(student / T, teacher / T, shared.rest, axes)
    likeliest = jnp.argmax(one, axis=1), jnp.argmax(other, axis=1)
    parts = Parts(
        ce=weighted_loss(chunk, logits, form),
        kl=jnp.sum(followed * (jnp.square(T) * found + sorted_apart)),
        teacher=jnp.sum(followed * _surprise(teacher, own[1], _target_class(chunk, shared), axes.teacher)),
        agreement=jnp.sum(followed * ((likeliest[0] == likeliest[1]) & (likeliest[0] < aim.count))),
    )
    by_target = chunk._replace(weights=chunk.weights - goal.alpha * followed)
    total = goal.alpha * parts.kl + weighted_loss(by_target, logits, form)
    gradient = (goal.alpha * followed)[:, None] * (T * by_token + rest_by_token / T)
    return Verdict(total, parts, logits, gradient + d_weighted_loss(by_target, logits, form))


def _own(classes: jax.Array, axis: str | None) -> jax.Array:
    """int32: the classes of this device's rows."""
    if axis is None:
        return classes
    share = classes.shape[0] // jax.lax.axis_size(axis)
    return jax.lax.dynamic_slice_in_dim(classes, share * jax.lax.axis_index(axis), share)


def _class_logits(logits: jax.Array, classes: jax.Array, count: int, axis: str | None) -> jax.Array:
    """float32 [C, count + 1]: log of the sum of exponentials of each class's logits [C, V], not below highest - 87."""
    highest = jnp.max(logits, axis=-1, keepdims=True)
    if axis is not None:
        highest = jax.lax.pmax(highest, axis)
    sums = jax.ops.segment_sum(jnp.exp(logits - highest).T, classes, count + 1).T
    if axis is not None:
        sums = jax.lax.psum(sums, axis)
    return highest + jnp.log(jnp.maximum(sums, jnp.finfo(jnp.float32).tiny))


def _rest(
    student: jax.Array, teacher: jax.Array, rest: tuple[jax.Array, jax.Array], axes: Axes
) -> tuple[jax.Array, jax.Array]:
    """R [C], and T times its gradient by the student's logits [C, V]; from logits over T [C, V]."""
    if not rest[0].shape[0] and not rest[1].shape[0]:
        return jnp.zeros_like(student[:, 0]), jnp.zeros_like(student)
    q = jnp.exp(log_softmax(student, axes.student))
    p = jnp.exp(log_softmax(teacher, axes.teacher))
    own, other = _gathered(q, rest[0], axes.student), _gathered(p, rest[1], axes.teacher)
    size = max(own.shape[1], other.shape[1])
    order = jnp.argsort(-own, axis=1)
    difference = _filled(jnp.take_along_axis(own, order, axis=1), size) - _filled(-jnp.sort(-other, axis=1), size)
    ranked = jnp.sign(difference[:, : own.shape[1]])
    signs = jnp.take_along_axis(ranked, jnp.argsort(order, axis=1), axis=1)
    mean = jnp.sum(own * signs, axis=1, keepdims=True)
    first = 0 if axes.student is None else q.shape[1] * jax.lax.axis_index(axes.student)
    here = (rest[0] >= first) & (rest[0] < first + q.shape[1])
    place = jnp.where(here, rest[0] - first, q.shape[1])
    spread = vary_like(jnp.zeros_like(q), signs, place).at[:, place].set(signs, mode="drop")
    return jnp.sum(jnp.abs(difference), axis=1), q * (spread - mean)


def _filled(x: jax.Array, size: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, size - x.shape[1])))


def _gathered(x: jax.Array, tokens: jax.Array, axis: str | None) -> jax.Array:
    """[C, tokens] of [C, V], whichever device has them; the same on each."""
    first = 0 if axis is None else x.shape[1] * jax.lax.axis_index(axis)
    here = (tokens >= first) & (tokens < first + x.shape[1])
    found = jnp.where(here, jnp.take(x, jnp.where(here, tokens - first, 0), axis=1), 0.0)
    return found if axis is None else jax.lax.psum(found, axis)


def _target_class(chunk: Chunk, shared: _Shared) -> jax.Array:
    """int32 [C]."""
    return jnp.take(shared.classes[0], jnp.maximum(chunk.targets, 0), mode="clip")


def _surprise(logits: jax.Array, classes: jax.Array, wanted: jax.Array, axis: str | None) -> jax.Array:
    """[C] nats: -log of the probability of a class by logits [C, V], at most 87."""
    of_class = jnp.where(classes[None] == wanted[:, None], logits, _NEVER)
    return jnp.minimum(log_sum(logits, axis) - log_sum(of_class, axis), 87.0)
