"""Distance of hidden states, averaged over pairs of layers and summed over tokens.

    mse     |P s - t|^2 / |t|^2          s [Hs] the student's state, t [Ht] the teacher's, P [Ht, Hs] learned,
    cosine  1 - <P s, t> / (|P s| |t|)   or the identity where the widths are the same

Both are 0 where the two agree and do not depend on the teacher's scale (Jiao et al. 2020 compare so, without the
division).
"""

from typing import Literal

import jax
import jax.numpy as jnp

HiddenLoss = Literal["mse", "cosine"]
_TINY = 1e-6
"""Added to squared norms: below what any trained state has."""


def hidden_distance(
    student: jax.Array, teacher: jax.Array, projection: jax.Array | None, weights: jax.Array, kind: HiddenLoss
) -> jax.Array:
    """float32 scalar: sum over tokens of weight times the mean distance of the pairs.

    Args:
        student: [pairs, B, T, Hs].
        teacher: [pairs, B, T, Ht]; gets no gradient.
        projection: [pairs, Hs, Ht], or None when Hs is Ht.
        weights: [B, T].
        kind: the distance.
    """
    taught = jax.lax.stop_gradient(teacher).astype(jnp.float32)
    if projection is None:
        followed = student.astype(jnp.float32)
    else:
        product = "pbth,phg->pbtg"
        followed = jnp.einsum(product, student, projection.astype(student.dtype), preferred_element_type=jnp.float32)
    if kind == "mse":
        distance = _square(followed - taught) / (_square(taught) + _TINY)
    else:
        both = (_square(followed) + _TINY) * (_square(taught) + _TINY)
        distance = 1.0 - jnp.sum(followed * taught, axis=-1) * jax.lax.rsqrt(both)
    return jnp.sum(weights * jnp.mean(distance, axis=0))


def _square(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=-1)
