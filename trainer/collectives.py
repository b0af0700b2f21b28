"""What devices say to each other inside `jax.shard_map`, where every array is one device's part.

A mesh axis of size 1, or one that does not split the weight at hand, costs nothing: values are summed only over axes
along which they differ (varying.py), and nothing ever differs along an axis of size 1.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from trainer.varying import varying_axes


def own(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The same value, taken for this device's own: its gradient stays on the device instead of being summed."""
    missing = tuple(axis for axis in axes if axis not in varying_axes(x) and jax.lax.axis_size(axis) > 1)
    return jax.lax.pcast(x, missing, to="varying") if missing else x


def add_over(x: jax.Array, *axes: str) -> jax.Array:
    """The sum over those of the axes along which x varies."""
    split = tuple(axis for axis in axes if axis in varying_axes(x))
    return jax.lax.psum(x, split) if split else x


def gather_weight(x: jax.Array, spec: PartitionSpec) -> jax.Array:
    """A weight made whole along every axis that splits it, but for model."""
    for dimension, names in enumerate(spec):
        if axes := _copying(names):
            x = jax.lax.all_gather(x, axes, axis=dimension, tiled=True)
    return x


def reduce_gradient(x: jax.Array, spec: PartitionSpec, axes: tuple[str, ...]) -> jax.Array:
    """The sum of a whole weight's gradient over `axes`; each device keeps the part that `spec` gives it."""
    for dimension, names in enumerate(spec):
        if split := _copying(names):
            x = jax.lax.psum_scatter(x, split, scatter_dimension=dimension, tiled=True)
            axes = tuple(axis for axis in axes if axis not in split)
    return add_over(x, *axes)


def _copying(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The mesh axes in one entry of a PartitionSpec whose devices work on the same part of a layer: all but model."""
    axes = (names,) if isinstance(names, str) else names or ()
    return tuple(axis for axis in axes if axis != "model")


def index_along(*axes: str) -> jax.Array:
    """int32 number of this device along the axes, the last of them counting fastest."""
    several = tuple(axis for axis in axes if jax.lax.axis_size(axis) > 1)
    return jnp.asarray(jax.lax.axis_index(several) if several else 0, jnp.int32)
