"""Learning from a teacher's distribution, token by token, without ever holding all logits of either model.

    total = sum_t w_t (a s D_t(p, q) + (1 - a) CE_t),    p = softmax(z / T),    q = softmax(l / T)

with the teacher's logits z and the student's l, CE as in cross_entropy.py, s = T^2 (Hinton et al. 2015). T dD/dl is

    forward_kl   KL(p || q)                          q - p
    reverse_kl   KL(q || p)                          q (log q/p - D)
    jsd          b KL(p || m) + (1 - b) KL(q || m)   (1 - b) q (log q/m - KL(q || m)),    m = b p + (1 - b) q
    uld          sum_i |p_(i) - q_(i)|, sorted       q (g - sum q g),    g = sign(q_(i) - p_(i)) at the i-th's word

b weights the teacher in the mixture, as in TRL. uld (Boizard et al. 2024) compares vocabularies of different sizes, the
smaller one filled up with zeros; its s is 1. Gradients are made in the chunk's forward pass, see taught.py; the teacher
gets none. Devices along `vocab_axis` hold parts of the vocabularies; only for uld, which sorts, probabilities travel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from trainer.losses.chunks import Chunk, Form, d_weighted_loss, logits_of, product, weighted_loss
from trainer.losses.taught import Output, Parts, Verdict, taught_loss
from trainer.varying import vary_like

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
    # Logits of tokens that do not count are nobody's business, and finite.
    followed = jnp.where(weights[..., None] == 0, 0, teacher.hidden)
    shared = teacher.table, jnp.asarray(temperature, jnp.float32)
    return taught_loss(student, followed, shared, targets, weights, form, _judge, goal)


def _judge(
    chunk: Chunk,
    table: jax.Array,
    followed: jax.Array,
    shared: tuple[jax.Array, jax.Array],
    form: Form,
    goal: Goal,
) -> Verdict:
    """`followed` is the teacher's hidden states [C, H]; shared are its table and T."""
    logits = logits_of(chunk, table, form)
    student, (teacher_table, T) = logits.whole(form), shared
    teacher = product("ch,vh->cv", followed, teacher_table)
    if goal.teacher_softcap is not None:
        teacher = goal.teacher_softcap * jnp.tanh(teacher / goal.teacher_softcap)
    axes = Axes(form.vocab_axis, goal.teacher_vocab_axis)
    found, gradient = DIVERGENCES[goal.divergence](
        log_softmax(teacher / T, axes.teacher), log_softmax(student / T, axes.student), axes, goal
    )
    scale = jnp.ones_like(T) if goal.divergence == "uld" else jnp.square(T)
    w = chunk.weights
    their_losses = log_sum(teacher, axes.teacher) - target_logits(teacher, chunk.targets, axes.teacher)
    parts = Parts(
        ce=weighted_loss(chunk, logits, form),
        kl=jnp.sum(w * scale * found),
        teacher=jnp.sum(w * their_losses),
        agreement=jnp.sum(w * (likeliest(student, axes.student) == likeliest(teacher, axes.teacher))),
    )
    total = goal.alpha * parts.kl + (1 - goal.alpha) * parts.ce
    gradient *= goal.alpha * w[:, None] * (scale / T)
    return Verdict(total, parts, logits, gradient + (1 - goal.alpha) * d_weighted_loss(chunk, logits, form))


class Axes(NamedTuple):
    """Mesh axes that split the vocabularies."""

    student: str | None
    teacher: str | None


def _forward_kl(p: jax.Array, q: jax.Array, axes: Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    """From logs of probabilities [C, V]: the divergence [C], and T times its gradient by the student's logits."""
    return _sum(jnp.exp(p) * (p - q), axes.student), jnp.exp(q) - jnp.exp(p)


def _reverse_kl(p: jax.Array, q: jax.Array, axes: Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    found = _sum(jnp.exp(q) * (q - p), axes.student)
    return found, jnp.exp(q) * (q - p - found[:, None])


def _jsd(p: jax.Array, q: jax.Array, axes: Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    b = goal.jsd_beta
    m = jnp.logaddexp(p + jnp.log(b), q + jnp.log(1 - b))
    of_teacher, of_student = _sum(jnp.exp(p) * (p - m), axes.student), _sum(jnp.exp(q) * (q - m), axes.student)
    return b * of_teacher + (1 - b) * of_student, (1 - b) * jnp.exp(q) * (q - m - of_student[:, None])


def _uld(p: jax.Array, q: jax.Array, axes: Axes, goal: Goal) -> tuple[jax.Array, jax.Array]:
    own, all_p, all_q = jnp.exp(q), whole(jnp.exp(p), axes.teacher), whole(jnp.exp(q), axes.student)
    size = max(all_p.shape[1], all_q.shape[1])
    order = jnp.argsort(-all_q, axis=1)
    difference = _filled(jnp.take_along_axis(all_q, order, axis=1), size) - _filled(-jnp.sort(-all_p, axis=1), size)
    signs = jnp.take_along_axis(jnp.sign(difference[:, : order.shape[1]]), jnp.argsort(order, axis=1), axis=1)
    if axes.student is not None:
        start = own.shape[1] * jax.lax.axis_index(axes.student)
        signs = jax.lax.dynamic_slice_in_dim(signs, start, own.shape[1], axis=1)
    return jnp.sum(jnp.abs(difference), axis=1), own * (signs - _sum(own * signs, axes.student)[:, None])


Compared = Callable[[jax.Array, jax.Array, Axes, Goal], tuple[jax.Array, jax.Array]]
DIVERGENCES: dict[Divergence, Compared] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "jsd": _jsd,
    "uld": _uld,
}


def _filled(x: jax.Array, size: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (0, size - x.shape[1])))


def whole(x: jax.Array, axis: str | None) -> jax.Array:
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


def log_sum(logits: jax.Array, axis: str | None) -> jax.Array:
    """[C] log of the sum of exponentials over the whole vocabulary."""
    highest = jnp.max(logits, axis=-1)
    if axis is not None:
        highest = jax.lax.pmax(highest, axis)
    return highest + jnp.log(_sum(jnp.exp(logits - highest[:, None]), axis))


def log_softmax(logits: jax.Array, axis: str | None) -> jax.Array:
    """[C, V] logs of probabilities over the whole vocabulary."""
    return logits - log_sum(logits, axis)[:, None]


def _words(logits: jax.Array, axis: str | None) -> jax.Array:
    """int32 [V] token ids of this device's logits."""
    words = jnp.arange(logits.shape[1], dtype=jnp.int32)
    return words if axis is None else words + logits.shape[1] * jax.lax.axis_index(axis)


def target_logits(logits: jax.Array, targets: jax.Array, axis: str | None) -> jax.Array:
    """[C] the targets' logits."""
    is_target = targets[:, None] == _words(logits, axis)
    return _sum(jnp.where(is_target, logits, 0.0), axis)


def likeliest(logits: jax.Array, axis: str | None) -> jax.Array:
    """int32 [C] token ids; the least of several that are equally likely."""
    highest = jnp.max(logits, axis=-1, keepdims=True)
    if axis is not None:
        highest = jax.lax.pmax(highest, axis)
    found = jnp.min(jnp.where(logits == highest, _words(logits, axis), jnp.iinfo(jnp.int32).max), axis=-1)
    return found if axis is None else jax.lax.pmin(found, axis)
