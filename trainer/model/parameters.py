"""A model's parameters as a pytree of nested dicts, described without making them.

A module states each weight once: shape, dtype, logical axes and initializer. Everything else reads that description:
initialization, placement on the mesh, weight decay, restoring, import and counting.
"""

import math
from dataclasses import dataclass

import jax
from flax import nnx
from flax.nnx.traversals import unflatten_mapping

from trainer.mesh import Sharding
from trainer.model.computation import Params
from trainer.model.decoder import Decoder
from vishwamai.contract.config import ModelSection

_NOT_DECAYED = frozenset({"norm", "heads_bias", "kv_heads_bias"})


@dataclass(frozen=True)
class Description:
    """What a model's parameters look like."""

    graph: nnx.GraphDef[Decoder]
    """The model without its weights: `nnx.merge(graph, params)` is the model."""
    shapes: Params
    """jax.ShapeDtypeStruct for each parameter."""
    axes: Params
    """Tuple of logical axis names for each parameter."""

    @property
    def count(self) -> int:
        """Number of trainable parameters."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.shapes))

    def specs(self, sharding: Sharding) -> Params:
        """How the mesh splits each parameter."""
        return jax.tree.map(lambda leaf, axes: sharding.spec(axes, leaf.shape), self.shapes, self.axes)

    def matrices(self) -> Params:
        """True for weight matrices, embedding tables among them; False for norm scales and biases."""
        return jax.tree.map(lambda _, axes: _NOT_DECAYED.isdisjoint(axes), self.shapes, self.axes)


def describe(config: ModelSection) -> Description:
    """The description of a decoder's parameters; allocates nothing."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))
    shapes = nnx.to_pure_dict(state)
    axes = unflatten_mapping({path: weight.out_sharding for path, weight in nnx.to_flat_state(state)})
    return Description(graph, shapes, axes)


def init_params(config: ModelSection, key: jax.Array) -> Params:
    """Fresh parameters; the values depend on config and key alone, not on the mesh."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key))))
