"""Devices as a mesh, and the one table that says what each mesh axis splits.

Weights name their axes by meaning ("embed", "heads", ...). `sharding_rules` maps those logical axes to mesh axes:
heads, MLP and vocabulary over model, and the weights' embed axis over whatever the job splits its weights by. Batches
are split by sequences over data and fsdp, and by tokens over sequence.

The step computes device by device (`jax.shard_map`), so every collective stands in the code: weights are gathered and
gradients reduced in gradients.py, partial products are summed over `model` where a projection ends in the residual
stream, and keys and values are gathered over `sequence` in attention.
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
TOKEN_AXES = ("data", "fsdp", "sequence")
"""Axes whose devices work on different tokens: what each of them sums, all of them must add up."""


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


def check_platform(job: ResolvedJob) -> None:
    """Raises UserError when JAX found other hardware than the job is to run on: it would fall back in silence."""
    wanted, found = job.hardware.platform, jax.devices()[0].platform
    if {"cuda": "gpu", "rocm": "gpu"}.get(found, found) != wanted:
        raise UserError(
            f"the job is to run on {wanted.upper()}, and JAX found only {found.upper()} on this machine: install JAX "
            f"for it (the extra {'tpu' if wanted == 'tpu' else 'cuda'}), or ask for platform {found}"
        )


def _device_grid(devices: Sequence[jax.Device], shape: tuple[int, ...], slices: int) -> np.ndarray:
    """Devices in the mesh's shape, laid out along the slice's wires; slices are joined along the data axis."""
    if slices > 1 and hasattr(devices[0], "slice_index"):
        within = (shape[0] // slices, *shape[1:])
        return mesh_utils.create_hybrid_device_mesh(within, (slices, 1, 1, 1), devices)
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)


def sharding_rules(job: ResolvedJob) -> Rules:
    """Mesh axes that split each logical axis; () keeps it whole."""
    return {
        "heads": ("model",),
        "kv_heads": ("model",),
        "mlp": ("model",),
        "vocab": ("model",),
        "embed": tuple(axis for axis in job.execution.weight_axes if axis != "model"),
        "heads_bias": ("model",),
        "kv_heads_bias": ("model",),
        "layers": (),
        "teacher_embed": (),
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

    def spec(self, axes: Sequence[str], shape: Sequence[int]) -> PartitionSpec:
        """How the mesh splits a weight of this shape; `axes` names each dimension.

        A mesh axis that does not divide a dimension leaves it whole: small or odd weights are cheaper copied than
        padded.
        """
        return PartitionSpec(*(self._split(axis, size) for axis, size in zip(axes, shape, strict=True)))

    def _split(self, axis: str, size: int) -> tuple[str, ...] | None:
        chosen: tuple[str, ...] = ()
        parts = 1
        for mesh_axis in self.rules[axis]:
            devices = self.mesh.shape[mesh_axis]
            if devices > 1 and size % (parts * devices) == 0:
                chosen, parts = (*chosen, mesh_axis), parts * devices
        return chosen or None


def batch_spec(mesh: Mesh) -> PartitionSpec:
    """How a batch's [sequences, tokens] fields are split."""
    sequences = tuple(axis for axis in BATCH_AXES if mesh.shape[axis] > 1)
    return PartitionSpec(sequences or None, "sequence" if mesh.shape["sequence"] > 1 else None)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Where a batch's [sequences, tokens] fields live."""
    return NamedSharding(mesh, batch_spec(mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())
