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

    Raises ValueError for shift "label" in float16, which ends at e^11.
    """
    if shift == "label" and jnp.finfo(hidden.dtype).max < jnp.finfo(jnp.bfloat16).max:
        raise ValueError(f'shift "label" keeps exponentials up to e^88, too large for {hidden.dtype}: use "max"')
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
        # Cutting a chunk out inside of its products costs the TPU more than doing it before.
        chunk = jax.lax.optimization_barrier(chunk)
        logits = _logits(chunk, table, form)
        d_logits = _d_logits(chunk, logits, form)
        d_hidden = _product("cv,vh->ch", d_logits, table).astype(hidden.dtype)
        if form.shift == "label":
            # Made twice, the TPU makes it inside of each product; shared, it would be stored for both.
            same_chunk, same_logits = jax.lax.optimization_barrier((chunk, logits))
            d_logits = _d_logits(same_chunk, same_logits, form)
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
    """[C, H], 0 where the weight is."""
    targets: jax.Array
    """int [C]."""
    weights: jax.Array
    """float32 [C]."""


class _Logits(NamedTuple):
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

    def probabilities(self, form: _Form) -> jax.Array:
        """float32 [C, V] exp(l - log_sum)."""
        if form.shift == "label":
            return self.stored.astype(jnp.float32) * jnp.exp(self.target - self.log_sum)[:, None]
        return jnp.exp(self.stored.astype(jnp.float32) - self.log_sum[:, None])

    def whole(self, form: _Form) -> jax.Array:
        """float32 [C, V] l."""
        stored = self.stored.astype(jnp.float32)
        if form.shift == "label":
            return self.target[:, None] + jnp.log(jnp.maximum(stored, jnp.finfo(jnp.float32).tiny))
        return stored


def _cut(hidden: jax.Array, targets: jax.Array, weights: jax.Array, form: _Form) -> _Chunk:
    """Tokens in chunks as even as may be, at most chunk_tokens each; the last one ends in tokens of weight 0."""
    tokens = targets.size
    count = -(-tokens // max(form.chunk_tokens, 1))
    length = -(-tokens // count)

    def cut(x: jax.Array, *features: int) -> jax.Array:
        flat = x.reshape(tokens, *features)
        padded = jnp.pad(flat, [(0, count * length - tokens)] + [(0, 0)] * len(features))
        return padded.reshape(count, length, *features)

    # A token that does not count may have any target: no logits, and its loss is finite.
    hidden = jnp.where(weights[..., None] == 0, 0, hidden)
    return _Chunk(cut(hidden, hidden.shape[-1]), cut(targets), cut(weights.astype(jnp.float32)))


def _logits(chunk: _Chunk, table: jax.Array, form: _Form) -> _Logits:
    share = table.shape[0]
    own_target = chunk.targets - (0 if form.vocab_axis is None else share * jax.lax.axis_index(form.vocab_axis))
    if form.shift == "label":
        target = _target_logits(chunk, table, own_target, form)
        logits = _capped(_product("ch,vh->cv", chunk.hidden, table), form)
        exponentials = jnp.exp(logits - target[:, None])
        log_sum = target + jnp.log(_over_vocabulary(jnp.sum(exponentials, axis=-1), form))
        return _Logits(
            exponentials.astype(chunk.hidden.dtype), log_sum, target, _mean(logits, target, form), own_target
        )
    stored = jnp.einsum("ch,vh->cv", chunk.hidden, table)
    logits = _capped(stored.astype(jnp.float32), form)
    stored = logits.astype(stored.dtype)
    logits = stored.astype(jnp.float32)
    highest = jnp.max(logits, axis=-1)
    if form.vocab_axis is not None:
        highest = jax.lax.pmax(highest, form.vocab_axis)
    log_sum = highest + jnp.log(_over_vocabulary(jnp.sum(jnp.exp(logits - highest[:, None]), axis=-1), form))
    target = _over_vocabulary(jnp.sum(jnp.where(_is_target(own_target, logits), logits, 0.0), axis=-1), form)
    return _Logits(stored, log_sum, target, _mean(logits, target, form), own_target)


def _target_logits(chunk: _Chunk, table: jax.Array, own_target: jax.Array, form: _Form) -> jax.Array:
    """float32 [C], from the targets' rows of the table; 0 where there is no such row."""
    share = table.shape[0]
    rows = table[jnp.clip(own_target, 0, share - 1)].astype(jnp.float32)
    logits = jnp.sum(chunk.hidden.astype(jnp.float32) * rows, axis=-1)
    here = (own_target >= 0) & (own_target < share)
    return _capped(_over_vocabulary(jnp.where(here, logits, 0.0), form), form)


def _is_target(own_target: jax.Array, logits: jax.Array) -> jax.Array:
    return own_target[:, None] == jnp.arange(logits.shape[1])


def _mean(logits: jax.Array, target: jax.Array, form: _Form) -> jax.Array:
    if form.label_smoothing == 0:
        return target
    return _over_vocabulary(jnp.sum(logits, axis=-1), form) / _vocabulary(logits, form)


def _weighted(chunk: _Chunk, logits: _Logits, form: _Form) -> jax.Array:
    """float32: the sum of the chunk's weighted losses."""
    losses = logits.log_sum - (1 - form.label_smoothing) * logits.target - form.label_smoothing * logits.mean
    if form.z_loss > 0:
        losses += form.z_loss * jnp.square(logits.log_sum)
    return jnp.sum(chunk.weights * losses)


def _d_logits(chunk: _Chunk, logits: _Logits, form: _Form) -> jax.Array:
    """[C, V], in hidden's dtype: gradient of `_weighted` by hidden times table."""
    p = logits.probabilities(form)
    if form.z_loss > 0:
        p *= (1 + 2 * form.z_loss * logits.log_sum)[:, None]
    wanted = jnp.where(logits.is_target(), 1 - form.label_smoothing, 0.0)
    if form.label_smoothing > 0:
        wanted += form.label_smoothing / _vocabulary(p, form)
    gradient = chunk.weights[:, None] * (p - wanted)
    if form.softcap is not None:
        gradient *= 1 - jnp.square(logits.whole(form) / form.softcap)
    return gradient.astype(chunk.hidden.dtype)


def _vocabulary(logits: jax.Array, form: _Form) -> int:
    """Size of the whole vocabulary, of which [C, V] logits are this device's share."""
    return int(logits.shape[1] * (1 if form.vocab_axis is None else jax.lax.axis_size(form.vocab_axis)))


def _over_vocabulary(x: jax.Array, form: _Form) -> jax.Array:
    return x if form.vocab_axis is None else jax.lax.psum(x, form.vocab_axis)


def _capped(logits: jax.Array, form: _Form) -> jax.Array:
    return logits if form.softcap is None else form.softcap * jnp.tanh(logits / form.softcap)


def _product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)
