"""Learning from the words that a cache keeps of a teacher: distillation.py over k + 1 classes instead of V words.

    P_j ~ exp(a_j / T),    Q_j ~ exp(b_j / T),    total = sum_t w_t (alpha T^2 D(P, Q) + (1 - alpha) CE)

a_1 .. a_k are the teacher's logs of the kept words' probabilities, b_1 .. b_k the student's logits of the same words.
All other words are one class more: a_0 the teacher's log of what they have together, b_0 = log sum of exp l over them;
with `with_rest` false they are left out, and P and Q are over the kept words alone. D is any divergence that compares
word by word. With k = V nothing is left over, and this is the online loss. At T = 1 a kept word's P and Q are its
probabilities among all words, so its term is the online loss's own, and the sum is what merging words leaves of the
divergence: never more than all of it. With g_j = T dD/db_j of distillation.py, dD/dl of a kept word is g_j / T, and of
another one g_0 / T times its share exp(l - b_0) of the rest.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from trainer.losses.chunks import Chunk, Form, d_weighted_loss, logits_of, weighted_loss
from trainer.losses.distillation import DIVERGENCES, Axes, Goal, likeliest, log_softmax
from trainer.losses.taught import Output, Parts, Verdict, taught_loss
from trainer.losses.top_words import NOTHING, TopWords, gather_words, scatter_words, split_rest

_WHOLE = Axes(None, None)
"""The k + 1 classes are on every device."""


@dataclass(frozen=True, slots=True)
class CachedGoal:
    """What the student is to follow, and how much."""

    follow: Goal
    with_rest: bool = True
    """Whether all words that are not kept count as one."""


def cached_distillation(
    student: Output,
    kept: TopWords,
    targets: jax.Array,
    weights: jax.Array,
    temperature: jax.Array | float,
    goal: CachedGoal,
    *,
    chunk_tokens: int,
    vocab_axis: str | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    transpose_gradients: bool = False,
) -> tuple[jax.Array, Parts]:
    """The total, of which the student gets gradients; and its parts, of which `teacher` is exact.

    Args as those of `distillation`, with `kept` [B, T, k] for the teacher.

    Raises ValueError for uld, which sorts the whole vocabulary.
    """
    if goal.follow.divergence == "uld":
        raise ValueError("uld sorts the whole vocabulary, of which a cache keeps a part")
    form = Form(chunk_tokens, vocab_axis, z_loss, label_smoothing, softcap, transpose_gradients, "max")
    T = jnp.asarray(temperature, jnp.float32)
    return taught_loss(student, kept, T, targets, weights, form, _judge, goal)


def _judge(chunk: Chunk, table: jax.Array, kept: TopWords, T: jax.Array, form: Form, goal: CachedGoal) -> Verdict:
    logits = logits_of(chunk, table, form)
    student, axis = logits.whole(form), form.vocab_axis
    ids, log_probs = kept.ids.astype(jnp.int32), kept.log_probs.astype(jnp.float32)
    own = gather_words(student, ids, axis)
    nothing = jnp.full_like(own[:, 0], NOTHING)
    rest, others = split_rest(student, ids, axis) if goal.with_rest else (nothing, None)
    their_rest = kept.rest if goal.with_rest else nothing
    found, slope = DIVERGENCES[goal.follow.divergence](
        _classes(log_probs, their_rest, T), _classes(own, rest, T), _WHOLE, goal.follow
    )
    gradient = scatter_words(slope[:, :-1], ids, student, axis)
    if others is not None:
        gradient += slope[:, -1:] * jnp.exp(others - rest[:, None])
    w, alpha = chunk.weights, goal.follow.alpha
    parts = Parts(
        ce=weighted_loss(chunk, logits, form),
        kl=jnp.sum(w * jnp.square(T) * found),
        teacher=-jnp.sum(w * kept.target),
        agreement=jnp.sum(w * (likeliest(student, axis) == ids[:, 0])),
    )
    total = alpha * parts.kl + (1 - alpha) * parts.ce
    gradient *= alpha * w[:, None] * T
    return Verdict(total, parts, logits, gradient + (1 - alpha) * d_weighted_loss(chunk, logits, form))


def _classes(words: jax.Array, rest: jax.Array, T: jax.Array) -> jax.Array:
    """[C, k + 1] logs of probabilities."""
    return log_softmax(jnp.maximum(jnp.concatenate([words, rest[:, None]], axis=1) / T, NOTHING), None)
