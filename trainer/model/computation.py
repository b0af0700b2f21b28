"""How a forward pass is computed; none of it changes what is computed beyond rounding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from trainer.attention.rotary import Tables
from trainer.linear import Multiplied
from vishwamai.contract.config.model import LayerKind
from vishwamai.contract.resolved import AttentionKind, RematPolicy

Params = dict[str, Any]
"""Nested dicts of float32 arrays."""


@dataclass(frozen=True)
class Computation:
    """Number format, kernels and memory of a forward pass on one device."""

    dtype: jnp.dtype
    attention: AttentionKind
    attention_block: int
    remat: RematPolicy
    scan_layers: bool
    transpose_gradients: bool
    """Weight gradients from a really transposed operand: what XLA's CPU backend multiplies fastest."""
    attention_products: Multiplied
    """How attention's projections are multiplied."""
    mlp_products: Multiplied
    """And those of the MLP."""
    prepare: Callable[[Params], Params]
    """Makes one layer's weights whole and casts them, where the layer uses them."""

    def cheaply(self, function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
        """The same elementwise function, keeping for its backward pass what it was given and not its steps.

        Where layers are computed anew nothing of them is kept, and XLA fuses their steps best when left alone.
        """
        if self.remat != "none":
            return function
        kept_short: Callable[[jax.Array], jax.Array] = jax.checkpoint(function)
        return kept_short


class Tokens(NamedTuple):
    """What every layer knows about the tokens of this device."""

    segments: jax.Array
    """int32 [B, T]: document numbers within the window; 0 is padding."""
    rotary: dict[LayerKind, Tables]
    """For the T positions of this device."""
    rows: jax.Array
    """int32 [B]: numbers of the sequences within the step, for dropout."""
    positions: jax.Array
    """int32 [T]: places in the window."""
