"""Logits of a chunk of tokens, and what losses make of them: no loss ever holds the logits of a whole batch.

A loss is a scan over chunks. While a chunk's logits [C, V] are at hand it makes its gradients, too: dh of the chunk,
and its share of dE, which the scan adds up. Devices along `vocab_axis` hold V / n rows of the table E each; maxima and
sums over the vocabulary are then over devices too, [C] numbers a time, and no logit travels.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp


@dataclass(frozen=True, slots=True)
class Form:
    """Of cross-entropy; trainer/losses/cross_entropy.py says what the fields mean."""

    chunk_tokens: int
    vocab_axis: str | None
    z_loss: float
    label_smoothing: float
    softcap: float | None
    transpose_gradients: bool
    shift: Literal["max", "label"]


class Chunk(NamedTuple):
    """C tokens; or n times C, which a scan visits."""

    hidden: jax.Array
    """[C, H], 0 where the weight is."""
    targets: jax.Array
    """int [C]."""
    weights: jax.Array
    """float32 [C]."""


class Logits(NamedTuple):
    """A chunk's logits l, and what of them the loss needs; V is this device's share of the vocabulary."""

    stored: jax.Array
    """[C, V] in hidden's dtype: l, or exp(l - target) when that is the shift."""
    log_sum: jax.Array
    """float32 [C] log sum over the whole vocabulary of exp l."""
    target: jax.Array
    """float32 [C] the target's l."""
    mean: jax.Array
    """float32 [C] mean l over the whole vocabulary; not made, and `target` instead, without label smoothing."""
    own_target: jax.Array
    """int [C] the target's column of `stored`, out of bounds where another device has it."""

    def is_target(self) -> jax.Array:
        """Where the target is: bool [C, V]."""
        return _is_target(self.own_target, self.stored)

    def probabilities(self, form: Form) -> jax.Array:
        """float32 [C, V] exp(l - log_sum)."""
        if form.shift == "label":
            return self.stored.astype(jnp.float32) * jnp.exp(self.target - self.log_sum)[:, None]
        return jnp.exp(self.stored.astype(jnp.float32) - self.log_sum[:, None])

    def whole(self, form: Form) -> jax.Array:
        """float32 [C, V] l."""
        stored = self.stored.astype(jnp.float32)
        if form.shift == "label":
            return self.target[:, None] + jnp.log(jnp.maximum(stored, jnp.finfo(jnp.float32).tiny))
        return stored


def cut(hidden: jax.Array, targets: jax.Array, weights: jax.Array, form: Form) -> Chunk:
    """Tokens in chunks as even as may be, at most chunk_tokens each; the last one ends in tokens of weight 0."""
    # A token that does not count may have any target: no logits, and its loss is finite.
    hidden = jnp.where(weights[..., None] == 0, 0, hidden)
    return Chunk(_cut(hidden, form), _cut(targets, form), _cut(weights.astype(jnp.float32), form))


def cut_tokens[Tree](tokens: Tree, form: Form) -> Tree:
    """[n, C, ...] of the chunks that `cut` makes, from each array [B, T, ...]."""
    return jax.tree.map(lambda x: _cut(x, form), tokens)


def _cut(x: jax.Array, form: Form) -> jax.Array:
    tokens, features = x.shape[0] * x.shape[1], x.shape[2:]
    count = -(-tokens // max(form.chunk_tokens, 1))
    length = -(-tokens // count)
    padded = jnp.pad(x.reshape(tokens, *features), [(0, count * length - tokens)] + [(0, 0)] * len(features))
    return padded.reshape(count, length, *features)


def logits_of(chunk: Chunk, table: jax.Array, form: Form) -> Logits:
    """The chunk's logits by this device's rows of the table."""
    share = table.shape[0]
    own_target = chunk.targets - (0 if form.vocab_axis is None else share * jax.lax.axis_index(form.vocab_axis))
    if form.shift == "label":
        target = _target_logits(chunk, table, own_target, form)
        logits = capped(product("ch,vh->cv", chunk.hidden, table), form)
        exponentials = jnp.exp(logits - target[:, None])
        log_sum = target + jnp.log(over_vocabulary(jnp.sum(exponentials, axis=-1), form))
        return Logits(exponentials.astype(chunk.hidden.dtype), log_sum, target, _mean(logits, target, form), own_target)
    stored = jnp.einsum("ch,vh->cv", chunk.hidden, table)
    logits = capped(stored.astype(jnp.float32), form)
    stored = logits.astype(stored.dtype)
    logits = stored.astype(jnp.float32)
    highest = jnp.max(logits, axis=-1)
    if form.vocab_axis is not None:
        highest = jax.lax.pmax(highest, form.vocab_axis)
    log_sum = highest + jnp.log(over_vocabulary(jnp.sum(jnp.exp(logits - highest[:, None]), axis=-1), form))
    target = over_vocabulary(jnp.sum(jnp.where(_is_target(own_target, logits), logits, 0.0), axis=-1), form)
    return Logits(stored, log_sum, target, _mean(logits, target, form), own_target)


def _target_logits(chunk: Chunk, table: jax.Array, own_target: jax.Array, form: Form) -> jax.Array:
    """float32 [C], from the targets' rows of the table; 0 where there is no such row."""
    share = table.shape[0]
    rows = table[jnp.clip(own_target, 0, share - 1)].astype(jnp.float32)
    logits = jnp.sum(chunk.hidden.astype(jnp.float32) * rows, axis=-1)
    here = (own_target >= 0) & (own_target < share)
    return capped(over_vocabulary(jnp.where(here, logits, 0.0), form), form)


def _is_target(own_target: jax.Array, logits: jax.Array) -> jax.Array:
    return own_target[:, None] == jnp.arange(logits.shape[1])


def _mean(logits: jax.Array, target: jax.Array, form: Form) -> jax.Array:
    if form.label_smoothing == 0:
        return target
    return over_vocabulary(jnp.sum(logits, axis=-1), form) / vocabulary_of(logits, form)


def weighted_loss(chunk: Chunk, logits: Logits, form: Form) -> jax.Array:
    """float32: the sum of the chunk's weighted losses."""
    losses = logits.log_sum - (1 - form.label_smoothing) * logits.target - form.label_smoothing * logits.mean
    if form.z_loss > 0:
        losses += form.z_loss * jnp.square(logits.log_sum)
    return jnp.sum(chunk.weights * losses)


def d_weighted_loss(chunk: Chunk, logits: Logits, form: Form) -> jax.Array:
    """float32 [C, V]: gradient of `weighted_loss` by the logits."""
    p = logits.probabilities(form)
    if form.z_loss > 0:
        p *= (1 + 2 * form.z_loss * logits.log_sum)[:, None]
    wanted = jnp.where(logits.is_target(), 1 - form.label_smoothing, 0.0)
    if form.label_smoothing > 0:
        wanted += form.label_smoothing / vocabulary_of(p, form)
    return chunk.weights[:, None] * (p - wanted)


def through_cap(gradient: jax.Array, logits: Logits, form: Form) -> jax.Array:
    """[C, V], in the stored logits' dtype: gradient by hidden times table, of one by the logits."""
    if form.softcap is not None:
        gradient *= 1 - jnp.square(logits.whole(form) / form.softcap)
    return gradient.astype(logits.stored.dtype)


def d_chunk(
    d_table: jax.Array, d_logits: jax.Array, same_d_logits: jax.Array, chunk: Chunk, table: jax.Array, form: Form
) -> tuple[jax.Array, jax.Array]:
    """The sum of dE with this chunk's share, [V, H] or with transpose_gradients [H, V]; and the chunk's dh [C, H].

    `same_d_logits` has the same values as `d_logits`, made anew where that is cheaper than to store them.
    """
    d_hidden = product("cv,vh->ch", d_logits, table).astype(chunk.hidden.dtype)
    if form.transpose_gradients:
        d_table += product("hc,cv->hv", jax.lax.optimization_barrier(chunk.hidden.T), same_d_logits)
    else:
        d_table += product("cv,ch->vh", same_d_logits, chunk.hidden)
    return d_table, d_hidden


def vocabulary_of(logits: jax.Array, form: Form) -> int:
    """Size of the whole vocabulary, of which [C, V] logits are this device's share."""
    return int(logits.shape[1] * (1 if form.vocab_axis is None else jax.lax.axis_size(form.vocab_axis)))


def over_vocabulary(x: jax.Array, form: Form) -> jax.Array:
    """The sum over the devices that split the vocabulary."""
    return x if form.vocab_axis is None else jax.lax.psum(x, form.vocab_axis)


def capped(logits: jax.Array, form: Form) -> jax.Array:
    """The logits under the soft-cap, if there is one."""
    return logits if form.softcap is None else form.softcap * jnp.tanh(logits / form.softcap)


def product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """A matrix product with float32 sums."""
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
