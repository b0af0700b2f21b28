"""A projection whose weight gradient XLA's CPU backend multiplies at full speed.

    y = x w        dx = dy w^T        dw = x^T dy

Autodiff writes dw as a product with a transposed left operand, for which XLA:CPU has a slow form (up to three times
slower, see docs/performance.md). Transposing x for real, behind an optimization barrier, gets the fast one.
"""

from functools import partial

import jax

from trainer.varying import cotangent_of


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def linear(x: jax.Array, w: jax.Array, transpose_gradients: bool) -> jax.Array:
    """[..., O] in x's dtype, from x [..., I] and w [I, O]; `transpose_gradients` transposes x for real in dw."""
    return x @ w


def _forward(x: jax.Array, w: jax.Array, transpose_gradients: bool) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ w, (x, w)


def _backward(
    transpose_gradients: bool, kept: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    flat, d_flat = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    transposed = jax.lax.optimization_barrier(flat.T) if transpose_gradients else flat.T
    return cotangent_of(x, dy @ w.T), cotangent_of(w, transposed @ d_flat)


linear.defvjp(_forward, _backward)
