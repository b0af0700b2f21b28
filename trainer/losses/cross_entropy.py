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

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp

from trainer.losses.chunks import (
    Chunk,
    Form,
    Logits,
    cut,
    d_chunk,
    d_weighted_loss,
    logits_of,
    through_cap,
    weighted_loss,
)
from trainer.varying import cotangent_of, vary_like


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
    form = Form(chunk_tokens, vocab_axis, z_loss, label_smoothing, softcap, transpose_gradients, shift)
    return _total(hidden, table, targets, weights, form), jnp.sum(weights)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _total(hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, form: Form) -> jax.Array:
    def visit(chunk: Chunk) -> jax.Array:
        return weighted_loss(chunk, logits_of(chunk, table, form), form)

    return jnp.sum(jax.lax.map(visit, cut(hidden, targets, weights, form)))


def _forward(
    hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, form: Form
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    def visit(d_table: jax.Array, chunk: Chunk) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        # Cutting a chunk out inside of its products costs the TPU more than doing it before.
        chunk = jax.lax.optimization_barrier(chunk)
        logits = logits_of(chunk, table, form)
        d_logits = same_d_logits = _d_logits(chunk, logits, form)
        if form.shift == "label":
            # Made twice, the TPU makes it inside of each product; shared, it would be stored for both.
            same_chunk, same_logits = jax.lax.optimization_barrier((chunk, logits))
            same_d_logits = _d_logits(same_chunk, same_logits, form)
        d_table, d_hidden = d_chunk(d_table, d_logits, same_d_logits, chunk, table, form)
        return d_table, (weighted_loss(chunk, logits, form), d_hidden)

    shape = table.shape[::-1] if form.transpose_gradients else table.shape
    nothing = vary_like(jnp.zeros(shape, jnp.float32), hidden, table, targets, weights)
    d_table, (losses, d_hidden) = jax.lax.scan(visit, nothing, cut(hidden, targets, weights, form))
    d_hidden = d_hidden.reshape(-1, hidden.shape[-1])[: targets.size].reshape(hidden.shape)
    # Rounded before the cotangent multiplies it: that is 1, or a power of two that scales the loss.
    d_table = (d_table.T if form.transpose_gradients else d_table).astype(table.dtype)
    return jnp.sum(losses), (hidden, table, d_hidden, d_table)


def _backward(form: Form, kept: tuple[jax.Array, ...], d_total: jax.Array) -> tuple[jax.Array, jax.Array, None, None]:
    hidden, table, *gradients = kept
    d_hidden, d_table = (gradient.astype(jnp.float32) * d_total for gradient in gradients)
    return cotangent_of(hidden, d_hidden.astype(hidden.dtype)), cotangent_of(table, d_table), None, None


_total.defvjp(_forward, _backward)


def _d_logits(chunk: Chunk, logits: Logits, form: Form) -> jax.Array:
    return through_cap(d_weighted_loss(chunk, logits, form), logits, form)
