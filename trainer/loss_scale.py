"""Steps whose gradients are no numbers: skipped, counted, and with a dynamic scale answered.

In a format of few exponent bits small gradients vanish. The loss is therefore multiplied by `scale` before it is
differentiated and the gradients are divided by it (Micikevicius et al. 2018). A power of two, so that nothing is
rounded:

    gradients overflow    this step is skipped, scale <- scale / 2, not below 1
    GROWTH_INTERVAL good steps in a row    scale <- 2 scale, not above HIGHEST

A step is *bad* when its loss is no number, or its gradients are none and no smaller scale could help. Bad steps in a
row end the run (`training.max_bad_steps`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vishwamai.contract.resolved import Precision

INITIAL = 2.0**15
HIGHEST = 2.0**24
GROWTH_INTERVAL = 2000


class Health(NamedTuple):
    """What a run remembers of its steps' numbers; scalars."""

    scale: jax.Array
    """float32: what the loss is multiplied by."""
    good: jax.Array
    """int32: good steps since the scale last changed."""
    bad: jax.Array
    """int32: bad steps in a row."""
    skipped: jax.Array
    """int32: steps that changed nothing, over the whole run."""


def healthy(precision: Precision) -> Health:
    """At the start of a run."""
    zero = jnp.zeros((), jnp.int32)
    return Health(jnp.float32(INITIAL if precision.loss_scale == "dynamic" else 1.0), zero, zero, zero)


def after_step(health: Health, precision: Precision, loss: jax.Array, finite: jax.Array) -> Health:
    """After a step with this loss; `finite`: loss and gradients were numbers, and the step counted."""
    can_help = jnp.isfinite(loss) & (health.scale > 1.0)
    counted = Health(
        health.scale,
        jnp.where(finite, health.good + 1, 0),
        jnp.where(finite, 0, jnp.where(can_help, health.bad, health.bad + 1)),
        health.skipped + jnp.where(finite, 0, 1),
    )
    if precision.loss_scale == "none":
        return counted
    grow = counted.good >= GROWTH_INTERVAL
    scale = jnp.where(grow, jnp.minimum(2.0 * health.scale, HIGHEST), health.scale)
    scale = jnp.where(finite | ~jnp.isfinite(loss), scale, jnp.maximum(0.5 * health.scale, 1.0))
    return counted._replace(scale=scale, good=jnp.where(grow, 0, counted.good))
