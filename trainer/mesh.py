"""Devices as a mesh, and the one table that says what each mesh axis splits.

Arrays name their axes by meaning ("embed", "heads", "batch", ...). `sharding_rules` maps those logical axes to mesh
axes: batch over data and fsdp, sequence over sequence, heads, MLP and vocabulary over model, and the weights' embed
axis over whatever the job splits its weights by. Everything else about distribution follows from that table: XLA's
partitioner inserts the collectives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainer.errors import UserError
from vishwamai.contract.resolved import MESH_AXES, ResolvedJob

Rules = dict[str, tuple[str, ...]]
BATCH_AXES = ("data", "fsdp")


def make_mesh(job: ResolvedJob, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The job's mesh with axes data, fsdp, sequence, model; uses the first devices when there are more than needed.

    Raises UserError when there are fewer devices than the job needs.
    """
    available = jax.devices() if devices is None else list(devices)
    shape = tuple(getattr(job.mesh, axis) for axis in MESH_AXES)
    needed = job.mesh.devices
    if len(available) < needed:
        sizes = ", ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, shape, strict=True))
        raise UserError(
            f"tpu.mesh_shape ({sizes}) needs {needed} devices, but this machine has {len(available)}: "
            f"run on {needed} devices, or give a mesh_shape whose product is {len(available)}"
        )
    return Mesh(_device_grid(available[:needed], shape, job.hardware.num_slices), MESH_AXES)


def _device_grid(devices: Sequence[jax.Device], shape: tuple[int, ...], slices: int) -> np.ndarray:
    """Devices in the mesh's shape, laid out along the slice's wires; slices are joined along the data axis."""
    if slices > 1 and hasattr(devices[0], "slice_index"):
        within = (shape[0] // slices, *shape[1:])
        return mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices)
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


def sharding_rules(job: ResolvedJob) -> Rules:
    """Mesh axes that split each logical axis; () keeps it whole."""
    return {
        # activations
        "batch": BATCH_AXES,
        "sequence": ("sequence",),
        # weights, and activations made from them
        "heads": ("model",),
        "kv_heads": ("model",),
        "mlp": ("model",),
        "vocab": ("model",),
        "embed": tuple(axis for axis in job.execution.weight_axes if axis != "model"),
        "head_dim": (),
        "layers": (),
        "norm": (),
    }


@dataclass(frozen=True)
class Sharding:
    """A mesh and its rules: turns logical axes into placements."""

    mesh: Mesh
    rules: Rules

    @classmethod
    def of(cls, job: ResolvedJob, mesh: Mesh) -> "Sharding":
        """The job's rules on a mesh."""
        return cls(mesh, sharding_rules(job))

    def named(self, axes: Sequence[str | None], shape: Sequence[int]) -> NamedSharding:
        """Where an array of this shape lives; `axes` names each dimension, None keeps one whole.

        A mesh axis that does not divide a dimension of a weight leaves it whole: small or odd weights are cheaper
        copied than padded. Batch and sequence must divide, because uneven shares would leave devices idle.
        """
        spec = PartitionSpec(*(self._split(axis, size) for axis, size in zip(axes, shape, strict=True)))
        return NamedSharding(self.mesh, spec)

    def _split(self, axis: str | None, size: int) -> tuple[str, ...] | None:
        chosen: tuple[str, ...] = ()
        parts = 1
        for mesh_axis in self.rules[axis] if axis else ():
            devices = self.mesh.shape[mesh_axis]
            if devices == 1:
                continue
            if size % (parts * devices) == 0:
                chosen, parts = (*chosen, mesh_axis), parts * devices
            elif axis in ("batch", "sequence"):
                raise UserError(f"{axis} of {size} does not split over the {devices} devices of mesh axis {mesh_axis}")
        return chosen or None

    def constrain(self, x: jax.Array, *axes: str | None) -> jax.Array:
        """Asks the partitioner to place an intermediate value by its logical axes."""
        return jax.lax.with_sharding_constraint(x, self.named(axes, x.shape))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Where a batch's [sequences, tokens] fields live."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES, "sequence"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
