"""Token-weighted cross-entropy from hidden states, without ever holding all logits.

    total = sum_t w_t (L_t - (1 - e) l_ty - e mean_v l_tv + z L_t^2),    l_tv = h_t . E_v,    L_t = log sum_v exp l_tv

with y the target, e the label smoothing, z the z-loss; a soft-cap c makes l into c tanh(l / c). h [t, H], E [V, H].

Logits of a whole batch are usually the largest array of a step. A scan visits the tokens in chunks and makes, while a
chunk's logits are at hand, its gradients too, so that neither logits nor their product are made twice:

    dl_tv = w_t ((1 + 2 z L_t) exp(l_tv - L_t) - (1 - e) [v = y] - e / V)      dh_t = dl_t E      dE += sum_t dl_t h_t

(times 1 - (l / c)^2 under a soft-cap). The backward pass multiplies them by the cotangent of the total, a scalar.
Without differentiation no gradient is made.

Devices along `vocab_axis` hold V / n rows of E each: maxima and sums over the vocabulary are then over devices too,
[chunk] numbers a time, and no logit travels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from trainer.varying import cotangent_of, vary_like


@dataclass(frozen=True, slots=True)
class _Form:
    chunk_tokens: int
    vocab_axis: str | None
    z_loss: float
    label_smoothing: float
    softcap: float | None
    transpose_gradients: bool
    shift: Literal["max", "label"]


def cross_entropy(
    hidden: jax.Array,
    table: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    chunk_tokens: int,
    vocab_axis: str | None = None,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    transpose_gradients: bool = False,
    shift: Literal["max", "label"] = "max",
) -> tuple[jax.Array, jax.Array]:
    """Sum of weighted losses in nats, and sum of weights; their quotient is the mean loss. Both float32.

    Args:
        hidden: [B, T, H] final hidden states. Logits are stored in their dtype; all sums are float32.
        table: [V, H] output embeddings in hidden's dtype; this device's rows of them with `vocab_axis`.
        targets: int [B, T] token ids, anything where the weight is 0.
        weights: [B, T], 0 where the target does not count; constants, which get no gradient.
        chunk_tokens: tokens whose logits exist at one time.
        vocab_axis: mesh axis over which the table's rows are split, inside `jax.shard_map`.
        z_loss: factor of the squared log-sum-exp.
        label_smoothing: probability that the target distribution spreads evenly over the vocabulary, 0 <= e < 1.
        softcap: bound on the logits.
        transpose_gradients: transpose hidden for real in dE, which XLA's CPU backend multiplies faster.
        shift: what is subtracted from logits before exp. "max" is right for all logits; "label", the target's own
            logit, is known before the product, which spares the TPU a pass over the logits, and is right until a
            token's loss exceeds 88 nats: then the total is infinite. Beyond doubt it is with a soft-cap up to 44.
    """
    form = _Form(chunk_tokens, vocab_axis, z_loss, label_smoothing, softcap, transpose_gradients, shift)
    return _total(hidden, table, targets, weights, form), jnp.sum(weights)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _total(hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, form: _Form) -> jax.Array:
    def visit(chunk: _Chunk) -> jax.Array:
        return _weighted(chunk, _logits(chunk, table, form), form)

    return jnp.sum(jax.lax.map(visit, _cut(hidden, targets, weights, form)))


def _forward(
    hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, form: _Form
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def visit(d_table: jax.Array, chunk: _Chunk) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = _logits(chunk, table, form)
        d_logits = _d_logits(chunk, logits, form).astype(hidden.dtype)
        d_hidden = _product("cv,vh->ch", d_logits, table).astype(hidden.dtype)
        if form.transpose_gradients:
            d_table += _product("hc,cv->hv", jax.lax.optimization_barrier(chunk.hidden.T), d_logits)
        else:
            d_table += _product("cv,ch->vh", d_logits, chunk.hidden)
        return d_table, (_weighted(chunk, logits, form), d_hidden)

    shape = table.shape[::-1] if form.transpose_gradients else table.shape
    nothing = vary_like(jnp.zeros(shape, jnp.float32), hidden, table, targets, weights)
    d_table, (losses, d_hidden) = jax.lax.scan(visit, nothing, _cut(hidden, targets, weights, form))
    d_hidden = d_hidden.reshape(-1, hidden.shape[-1])[: targets.size].reshape(hidden.shape)
    # Rounded before the cotangent multiplies it: that is 1, or a power of two that scales the loss.
    d_table = (d_table.T if form.transpose_gradients else d_table).astype(table.dtype)
    return jnp.sum(losses), (hidden, table, d_hidden, d_table)


def _backward(form: _Form, kept: tuple[jax.Array, ...], d_total: jax.Array) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, table, *gradients = kept
    d_hidden, d_table = (gradient.astype(jnp.float32) * d_total for gradient in gradients)
    return cotangent_of(hidden, d_hidden.astype(hidden.dtype)), cotangent_of(table, d_table), None, None


_total.defvjp(_forward, _backward)


class _Chunk(NamedTuple):
    """C tokens; or n times C, which a scan visits."""

    hidden: jax.Array
    """[C, H]."""
    targets: jax.Array
    """int [C]."""
    weights: jax.Array
    """float32 [C]."""


class _Logits(NamedTuple):
    """A chunk's logits l, and what of them the loss needs; V is this device's share of the vocabulary."""

    above_base: jax.Array
    """[C, V] l - base, in hidden's dtype."""
    base: jax.Array
    """float32 [C]."""
    log_sum: jax.Array
    """float32 [C] log sum over the vocabulary of exp l."""
    target: jax.Array
    """float32 [C] the target's l."""
    is_target: jax.Array
    """bool [C, V]."""

    def whole(self) -> jax.Array:
        """float32 [C, V] l."""
        return self.above_base.astype(jnp.float32) + self.base[:, None]


def _cut(hidden: jax.Array, targets: jax.Array, weights: jax.Array, form: _Form) -> _Chunk:
    """Tokens in chunks as even as may be, at most chunk_tokens each; the last one ends in tokens of weight 0."""
    tokens = targets.size
    count = -(-tokens // max(form.chunk_tokens, 1))
    length = -(-tokens // count)

    def cut(x: jax.Array, *features: int) -> jax.Array:
        flat = x.reshape(tokens, *features)
        padded = jnp.pad(flat, [(0, count * length - tokens)] + [(0, 0)] * len(features))
        return padded.reshape(count, length, *features)

    return _Chunk(cut(hidden, hidden.shape[-1]), cut(targets), cut(weights.astype(jnp.float32)))


def _logits(chunk: _Chunk, table: jax.Array, form: _Form) -> _Logits:
    share = table.shape[0]
    first = 0 if form.vocab_axis is None else share * jax.lax.axis_index(form.vocab_axis)
    own_target = chunk.targets - first
    is_target = own_target[:, None] == jnp.arange(share)
    if form.shift == "label":
        here = (own_target >= 0) & (own_target < share)
        rows = table[jnp.clip(own_target, 0, share - 1)].astype(jnp.float32)
        found = jnp.where(here, jnp.sum(chunk.hidden.astype(jnp.float32) * rows, axis=-1), 0.0)
        target = _capped(_over_vocabulary(found, form), form)
        # Rounded only after the sum: what is near the target's logit, and so weighs, is then rounded least.
        above = _capped(_product("ch,vh->cv", chunk.hidden, table), form) - target[:, None]
        log_sum = target + jnp.log(_over_vocabulary(jnp.sum(jnp.exp(above), axis=-1), form))
        return _Logits(above.astype(chunk.hidden.dtype), target, log_sum, target, is_target)
    logits = jnp.einsum("ch,vh->cv", chunk.hidden, table)
    logits = _capped(logits.astype(jnp.float32), form).astype(logits.dtype)
    above = logits.astype(jnp.float32)
    highest = jnp.max(above, axis=-1)
    if form.vocab_axis is not None:
        highest = jax.lax.pmax(highest, form.vocab_axis)
    total = _over_vocabulary(jnp.sum(jnp.exp(above - highest[:, None]), axis=-1), form)
    target = _over_vocabulary(jnp.sum(jnp.where(is_target, above, 0.0), axis=-1), form)
    return _Logits(logits, jnp.zeros_like(highest), highest + jnp.log(total), target, is_target)


def _weighted(chunk: _Chunk, logits: _Logits, form: _Form) -> jax.Array:
    """float32: the sum of the chunk's weighted losses."""
    smoothing = form.label_smoothing
    target = logits.target
    if smoothing > 0:
        mean = _over_vocabulary(jnp.sum(logits.whole(), axis=-1), form) / _vocabulary(logits, form)
        target = (1 - smoothing) * target + smoothing * mean
    losses = logits.log_sum - target
    if form.z_loss > 0:
        losses += form.z_loss * jnp.square(logits.log_sum)
    # Where the weight is 0 the target may be anything, and its loss infinite.
    return jnp.sum(jnp.where(chunk.weights == 0, 0.0, chunk.weights * losses))


def _d_logits(chunk: _Chunk, logits: _Logits, form: _Form) -> jax.Array:
    """float32 [C, V]: gradient of `_weighted` by hidden times table."""
    weights, smoothing = chunk.weights[:, None], form.label_smoothing
    p = jnp.exp(logits.above_base.astype(jnp.float32) - (logits.log_sum - logits.base)[:, None])
    if form.z_loss > 0:
        p *= (1 + 2 * form.z_loss * logits.log_sum)[:, None]
    wanted = jnp.where(logits.is_target, 1 - smoothing, 0.0)
    if smoothing > 0:
        wanted += smoothing / _vocabulary(logits, form)
    gradient = weights * (p - wanted)
    return gradient if form.softcap is None else gradient * (1 - jnp.square(logits.whole() / form.softcap))


def _vocabulary(logits: _Logits, form: _Form) -> int:
    devices = 1 if form.vocab_axis is None else jax.lax.axis_size(form.vocab_axis)
    return int(logits.above_base.shape[1] * devices)


def _over_vocabulary(x: jax.Array, form: _Form) -> jax.Array:
    return x if form.vocab_axis is None else jax.lax.psum(x, form.vocab_axis)


def _capped(logits: jax.Array, form: _Form) -> jax.Array:
    return logits if form.softcap is None else form.softcap * jnp.tanh(logits / form.softcap)


def _product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
