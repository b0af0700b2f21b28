"""AdamW with decoupled weight decay (Loshchilov and Hutter 2019) and its learning-rate schedule.

    g <- g min(1, max_grad_norm / |g|)        |g| over all parameters; max_grad_norm 0 leaves g alone
    m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2
    p <- p - lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p)

Decay is for weight matrices, the embedding tables among them, and not for norm scales.

Update s = 0, 1, ..., max_steps - 1 uses rate(s). With W warm-up steps the rate rises from peak / W at s = 0 to the peak
at s = W - 1, and from there goes down to peak * min_learning_rate_ratio exactly at the last update:

    linear, cosine   over all the remaining updates
    wsd              stays at the peak, then falls linearly over the last decay_fraction of max_steps (Hu et al. 2024)
    constant         stays at the peak

Moments may be kept in bfloat16: half their memory, and updates smaller than 1/256 of a moment are lost.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from trainer.model import Params
from vishwamai.contract.config import TrainingSection


def learning_rate(training: TrainingSection) -> optax.Schedule:
    """The rate of update s (from 0, a number or an int array) as float32."""
    warmup, last = training.warmup_steps, training.max_steps - 1
    top = max(warmup - 1, 0)
    if training.lr_schedule == "wsd":
        top = max(top, last - max(1, round(training.decay_fraction * training.max_steps)))
    peak, final = training.learning_rate, training.learning_rate * training.min_learning_rate_ratio

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        s = jnp.asarray(step, jnp.int32)
        rise = jnp.minimum((s + 1) / max(warmup, 1), 1.0)
        done = jnp.clip((s - top) / max(last - top, 1), 0.0, 1.0)
        remaining = 0.5 * (1.0 + jnp.cos(jnp.pi * done)) if training.lr_schedule == "cosine" else 1.0 - done
        if training.lr_schedule == "constant":
            remaining = jnp.ones_like(done)
        return rise * (peak * remaining + final * (1.0 - remaining))

    return rate


def make_optimizer(training: TrainingSection, decayed: Params | None) -> optax.GradientTransformation:
    """Clipping, then AdamW; `decayed` is True for each parameter that decays, None when all do."""
    adam = training.optimizer
    clip = optax.clip_by_global_norm(training.max_grad_norm) if training.max_grad_norm else optax.identity()
    moments = optax.scale_by_adam(b1=adam.beta1, b2=adam.beta2, eps=adam.epsilon)
    return optax.chain(
        clip,
        moments if adam.state_dtype == "float32" else _kept_in(jnp.dtype(adam.state_dtype), moments),
        optax.add_decayed_weights(training.weight_decay, decayed),
        optax.scale_by_learning_rate(learning_rate(training)),
    )


def _kept_in(dtype: jnp.dtype, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation, its float state kept in another number format and updated in float32."""

    def cast(state: Any, to: jnp.dtype) -> Any:
        return jax.tree.map(lambda x: x.astype(to) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = inner.update(updates, cast(state, jnp.dtype(jnp.float32)), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(inner.init(params), dtype), update)
