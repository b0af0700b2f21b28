"""y = x w of eight-bit numbers with one scale for many of them, found when they are rounded; sums are wider.

    q(x) = round(x / s),   s = max|x| / (largest number of the format), or 1 where that would vanish

    y = s_x s_w q(x) q(w)

fp8 (Micikevicius et al. 2022): x and w in e4m3, gradients, which have less need of digits than of range, in e5m2; one
scale a tensor, because then a rounded operand serves both products it is in:

    dx = s_d s_w q(dy) q(w)^T          dw = s_x s_d q(x)^T q(dy)

int8 (SwitchBack, Wortsman et al. 2023): a scale a token for x and dy, one for w. Eight evenly spaced digits are too few
for a sum over tokens, so dw = x^T dy stays in the computation's format.

Within `jax.shard_map` each device scales what it has, so no scale waits for another device; rounding then depends on
the mesh. No number, or an infinite one, makes its scale none, and that of all results: an overflow is never hidden.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import qwix

from trainer.varying import cotangent_of

LowPrecision = Literal["fp8", "int8"]


@dataclass(frozen=True)
class Formats:
    """How the operands of a product and of its gradients' products are rounded."""

    operand: jnp.dtype
    """Of x and w."""
    gradient: jnp.dtype
    """Of dy."""
    by_token: bool
    """x and dy have a scale a token, and dw is computed from numbers that were not rounded."""


FORMATS: dict[LowPrecision, Formats] = {
    "fp8": Formats(jnp.dtype(jnp.float8_e4m3fn), jnp.dtype(jnp.float8_e5m2), by_token=False),
    "int8": Formats(jnp.dtype(jnp.int8), jnp.dtype(jnp.int8), by_token=True),
}
_Kept = tuple[jax.Array | qwix.QArray, qwix.QArray, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def low_precision_product(x: jax.Array, w: jax.Array, kind: LowPrecision) -> jax.Array:
    """[..., O] in x's dtype, from x [..., I] and w [I, O], both bfloat16 or float32."""
    return _forward(x, w, kind)[0]


def _forward(x: jax.Array, w: jax.Array, kind: LowPrecision) -> tuple[jax.Array, _Kept]:
    formats = FORMATS[kind]
    flat = x.reshape(-1, x.shape[-1])
    x_rounded = _rounded(flat, formats.operand, by_token=formats.by_token)
    w_rounded = _rounded(w, formats.operand, by_token=False)
    y = _product(x_rounded, w_rounded, (1, 0)).astype(x.dtype)
    # Rounded operands are kept rather than rounded again: half the bytes, and no pass over them.
    kept = flat if formats.by_token else x_rounded
    return y.reshape(*x.shape[:-1], w.shape[-1]), (kept, w_rounded, _like(x), _like(w))


def _backward(kind: LowPrecision, kept: _Kept, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    formats = FORMATS[kind]
    x, w, like_x, like_w = kept
    flat = dy.reshape(-1, dy.shape[-1])
    dy_rounded = _rounded(flat, formats.gradient, by_token=formats.by_token)
    dx = _product(dy_rounded, w, (1, 1)).astype(like_x.dtype)
    if isinstance(x, qwix.QArray):
        dw = _product(x, dy_rounded, (0, 0))
    else:
        dw = jnp.matmul(x.T, flat, preferred_element_type=jnp.float32)
    dx = dx.reshape(*dy.shape[:-1], dx.shape[-1])
    return cotangent_of(like_x, dx), cotangent_of(like_w, dw.astype(like_w.dtype))


low_precision_product.defvjp(_forward, _backward)


def _rounded(x: jax.Array, to: jnp.dtype, *, by_token: bool) -> qwix.QArray:
    """The matrix in an eight-bit format, with a scale for each row or for all of it."""
    return qwix.quantize(x, to, channelwise_axes=[0] if by_token else [], scale_dtype=jnp.float32)


def _product(a: qwix.QArray, b: qwix.QArray, contracted: tuple[int, int]) -> jax.Array:
    """float32: the product of matrices over one axis of each."""
    axes = (((contracted[0],), (contracted[1],)), ((), ()))
    product: jax.Array = qwix.dot_general(a, b, axes, preferred_element_type=jnp.float32)
    return product


def _like(x: jax.Array) -> jax.Array:
    """A scalar of x's type that differs over the same mesh axes: what a cotangent has to know of its primal."""
    return x.reshape(-1)[0]
