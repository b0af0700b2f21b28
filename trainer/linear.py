"""A projection, in the computation's number format or of eight-bit numbers (trainer/precision).

    y = x w        dx = dy w^T        dw = x^T dy

Autodiff writes dw as a product with a transposed left operand, for which XLA:CPU has a slow form (up to three times
slower, see docs/performance.md). Transposing x for real, behind an optimization barrier, gets the fast one.
"""

from dataclasses import dataclass
from functools import partial

import jax
from jax.ad_checkpoint import checkpoint_name

from trainer.precision import low_precision_product
from trainer.varying import cotangent_of
from vishwamai.contract.resolved import Products

PRODUCT = "product"
"""Name under which remat policies know the result of eight-bit operands."""


@dataclass(frozen=True)
class Multiplied:
    """How a projection is multiplied."""

    products: Products = "compute"
    transpose_gradients: bool = False
    """In the computation's format: transposes x for real in dw."""


def linear(x: jax.Array, w: jax.Array, how: Multiplied) -> jax.Array:
    """[..., O] in x's dtype, from x [..., I] and w [I, O]."""
    if how.products == "compute":
        return _linear(x, w, how.transpose_gradients)
    return checkpoint_name(low_precision_product(x, w, how.products), PRODUCT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _linear(x: jax.Array, w: jax.Array, transpose_gradients: bool) -> jax.Array:
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


_linear.defvjp(_forward, _backward)
