"""From logits to the next token, in the order and with the meaning that Hugging Face transformers has.

    barred       ids that no tokenizer text has, padding, and the end before min_length: logit -inf
    repetition   logits l of tokens in the row so far: l / r where l > 0, else l * r; before the end is barred
    temperature  l / t; 0: the likeliest token, and no filter below matters
    top_k        only the k largest
    top_p        only the smallest set of the likeliest that has probability top_p at least
    min_p        only those with probability >= min_p * the largest one's

Then a draw from what is left. At the edge of top_k and top_p, equal logits stay or go together; transformers keeps all
of them in top_k and lets its sort decide in top_p. Row b's n-th token is drawn with a key of (seed, b, n): neither the
other rows nor the mesh change it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vishwamai.contract.generation import Sampling


class Filters(NamedTuple):
    """Numbers of a Sampling; None where it filters nothing, which costs nothing either."""

    temperature: jax.Array | float | None
    """None: greedy."""
    repetition_penalty: jax.Array | float | None
    top_k: jax.Array | int | None
    top_p: jax.Array | float | None
    min_p: jax.Array | float | None

    @classmethod
    def of(cls, sampling: Sampling) -> "Filters":
        """What of a sampling changes the draw."""
        greedy = sampling.temperature == 0.0
        return cls(
            temperature=None if greedy else sampling.temperature,
            repetition_penalty=None if sampling.repetition_penalty == 1.0 else sampling.repetition_penalty,
            top_k=None if greedy else sampling.top_k,
            top_p=None if greedy or sampling.top_p == 1.0 else sampling.top_p,
            min_p=None if greedy or not sampling.min_p else sampling.min_p,
        )


def penalized(logits: jax.Array, seen: jax.Array, penalty: jax.Array | float) -> jax.Array:
    """Logits [..., V] after the repetition penalty; seen bool [..., V]."""
    return jnp.where(seen, jnp.where(logits > 0, logits / penalty, logits * penalty), logits)


def filtered(logits: jax.Array, filters: Filters) -> jax.Array:
    """Logits [..., V] after temperature, top_k, top_p and min_p: -inf where a token is out."""
    if filters.temperature is None:
        return logits
    logits = logits / filters.temperature
    if filters.top_k is not None or filters.top_p is not None:
        logits = jnp.where(logits >= _least_kept(logits, filters), logits, -jnp.inf)
    if filters.min_p is not None:
        least = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(filters.min_p)
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    return logits


def draw(logits: jax.Array, filters: Filters, seed: jax.Array, number: jax.Array) -> jax.Array:
    """int32 [B] tokens from logits [B, V]; number int [B] counts each row's draws."""
    if filters.temperature is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    key = jax.random.key(seed)
    rows = jnp.arange(logits.shape[0])
    keys = jax.vmap(lambda row, n: jax.random.fold_in(jax.random.fold_in(key, row), n))(rows, number)
    return jax.vmap(jax.random.categorical)(keys, filtered(logits, filters)).astype(jnp.int32)


def _least_kept(logits: jax.Array, filters: Filters) -> jax.Array:
    """[..., 1]: the smallest logit that top_k and then top_p leave in."""
    ordered = -jnp.sort(-logits, axis=-1)
    V = logits.shape[-1]
    if filters.top_k is not None:
        kth = jnp.take_along_axis(ordered, _place(ordered, jnp.minimum(filters.top_k, V) - 1), axis=-1)
        ordered = jnp.where(ordered >= kth, ordered, -jnp.inf)
    else:
        kth = ordered[..., -1:]
    if filters.top_p is None:
        return kth
    chances = jax.nn.softmax(ordered, axis=-1)
    likelier = jnp.cumsum(chances, axis=-1) - chances  # together, than each
    last = jnp.sum(likelier < filters.top_p, axis=-1, keepdims=True) - 1
    return jnp.take_along_axis(ordered, jnp.maximum(last, 0), axis=-1)


def _place(ordered: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.full((*ordered.shape[:-1], 1), index, jnp.int32)
