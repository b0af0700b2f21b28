"""Weights of a frozen model's layers kept in eight bits.

    w ~ s q      w [L, I, O],  q the same in int8 or e4m3,  s [L, 1, O] float32,  s = max over I of |w| / largest q

One scale for each output channel of each layer, found once from the weights themselves: channel-wise weight-only
quantization after training (Nagel et al. 2021, section 2). A weight is off by at most s / 2 in int8, by 1/16 of itself
in e4m3. Where a layer uses it, the weight is s q in the computation's format again.

Qwix provides the pair and its arithmetic (QArray). Its PtqProvider, which rewrites a model's operations, is of no use
here: the step gathers its weights itself before any of them is used.
"""

from typing import Any

import jax
import jax.numpy as jnp
import qwix
from jax.sharding import PartitionSpec

from vishwamai.contract.resolved import EightBit

_INPUT_AXIS = 1
"""Of [layers, input, output]."""


def eight_bit(w: jax.Array, kept: EightBit) -> qwix.QArray:
    """A stack of matrices [L, I, O] in eight bits."""
    found = qwix.quantize(w.astype(jnp.float32), jnp.dtype(kept), channelwise_axes=[0, 2], scale_dtype=jnp.float32)
    return qwix.QArray(found.qvalue, found.scale, qtype=jnp.dtype(kept))


def in_numbers(weights: Any, dtypes: Any) -> Any:
    """The tree of weights, those in eight bits as arrays of `dtypes` again."""

    def plain(w: jax.Array | qwix.QArray, dtype: jnp.dtype) -> jax.Array:
        return qwix.dequantize(w).astype(dtype) if isinstance(w, qwix.QArray) else w

    return jax.tree.map(plain, weights, dtypes, is_leaf=is_eight_bit)


def eight_bit_specs(specs: Any, matrices: Any, kept: EightBit) -> Any:
    """How the mesh splits a layer stack whose matrices are kept so, given how it splits the plain one."""

    def spec_of(matrix: bool, spec: PartitionSpec) -> Any:
        whole_input = (*spec[:_INPUT_AXIS], None, *spec[_INPUT_AXIS + 1 :])
        return qwix.QArray(spec, PartitionSpec(*whole_input), qtype=jnp.dtype(kept)) if matrix else spec

    return jax.tree.map(spec_of, matrices, specs)


def is_eight_bit(x: object) -> bool:
    """Whether this is a weight in eight bits."""
    return isinstance(x, qwix.QArray)
