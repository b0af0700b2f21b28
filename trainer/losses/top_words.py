"""A teacher's k likeliest words of each token, and what they leave over: all that a cache keeps of its distribution.

    a_i = log p_i of the k words with the largest logits, likeliest first;    rest = log sum of the other words' p

p = softmax(z) over the whole vocabulary, at temperature 1, so the a_i and the rest are one distribution over k + 1
classes. Logits [C, V] exist for a chunk of tokens at a time. Devices along `vocab_axis` hold V / n rows of the table
each: every one finds its own k likeliest, and of these, which all get to know, the k likeliest stay.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from trainer.losses.chunks import Form, cut_tokens, product
from trainer.losses.distillation import log_sum, target_logits, whole
from trainer.losses.taught import Output

NOTHING = -1e30
"""The log of no probability: finite, so that its differences are numbers, and exp of it is 0."""


class TopWords(NamedTuple):
    """What is kept of a distribution, token by token."""

    ids: jax.Array
    """int32 [..., k] words, the likeliest first."""
    log_probs: jax.Array
    """float32 [..., k]."""
    rest: jax.Array
    """float32 [...]: log of what all other words have together; NOTHING where there are none."""
    target: jax.Array
    """float32 [...]: log of the target's probability, kept or not."""


def top_words(
    teacher: Output,
    targets: jax.Array,
    k: int,
    *,
    chunk_tokens: int,
    vocab_axis: str | None = None,
    softcap: float | None = None,
) -> TopWords:
    """The k likeliest words of each token, [B, T, k].

    Args:
        teacher: its last hidden states and its table.
        targets: int [B, T] token ids, anything where they do not count.
        k: words to keep, at most as many as there are.
        chunk_tokens: tokens whose logits exist at one time.
        vocab_axis: mesh axis over which the table is split, inside `jax.shard_map`.
        softcap: bound on the logits.
    """

    def visit(tokens: tuple[jax.Array, jax.Array]) -> TopWords:
        logits = product("ch,vh->cv", tokens[0], teacher.table)
        if softcap is not None:
            logits = softcap * jnp.tanh(logits / softcap)
        total = log_sum(logits, vocab_axis)
        ids, values = _likeliest(logits, k, vocab_axis)
        others, _ = split_rest(logits, ids, vocab_axis)
        return TopWords(
            ids,
            values - total[:, None],
            jnp.maximum(others - total, NOTHING),
            target_logits(logits, tokens[1], vocab_axis) - total,
        )

    form = Form(chunk_tokens, vocab_axis, 0.0, 0.0, softcap, False, "max")
    found = jax.lax.map(visit, cut_tokens((teacher.hidden, targets), form))
    B, T = targets.shape
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: B * T].reshape(B, T, *x.shape[2:]), found)


def _likeliest(logits: jax.Array, k: int, axis: str | None) -> tuple[jax.Array, jax.Array]:
    """int32 [C, k] words and [C, k] logits, from this device's [C, V]."""
    values, ids = jax.lax.top_k(logits, min(k, logits.shape[1]))
    if axis is None:
        return ids, values
    values, ids = whole(values, axis), whole(ids + logits.shape[1] * jax.lax.axis_index(axis), axis)
    values, places = jax.lax.top_k(values, k)
    return jnp.take_along_axis(ids, places, axis=1), values


def gather_words(logits: jax.Array, ids: jax.Array, axis: str | None) -> jax.Array:
    """[C, k] logits of the words `ids`, from this device's [C, V]."""
    own, here = _own(logits, ids, axis)
    found = jnp.where(here, jnp.take_along_axis(logits, jnp.where(here, own, 0), axis=1), 0.0)
    return found if axis is None else jax.lax.psum(found, axis)


def split_rest(logits: jax.Array, ids: jax.Array, axis: str | None) -> tuple[jax.Array, jax.Array]:
    """[C] log of the sum of exponentials of all words but `ids`; and the logits with NOTHING in place of those."""
    own, here = _own(logits, ids, axis)
    others = logits.at[_rows(ids), jnp.where(here, own, logits.shape[1])].set(NOTHING, mode="drop")
    return log_sum(others, axis), others


def scatter_words(values: jax.Array, ids: jax.Array, logits: jax.Array, axis: str | None) -> jax.Array:
    """This device's [C, V] with `values` [C, k] at the words `ids`, and 0 elsewhere."""
    own, here = _own(logits, ids, axis)
    return jnp.zeros_like(logits).at[_rows(ids), jnp.where(here, own, logits.shape[1])].add(values, mode="drop")


def _own(logits: jax.Array, ids: jax.Array, axis: str | None) -> tuple[jax.Array, jax.Array]:
    """int32 [C, k] columns of this device's logits, and bool [C, k]: whether it has them."""
    own = ids - (0 if axis is None else logits.shape[1] * jax.lax.axis_index(axis))
    return own, (own >= 0) & (own < logits.shape[1])


def _rows(ids: jax.Array) -> jax.Array:
    return jnp.arange(ids.shape[0], dtype=jnp.int32)[:, None]
