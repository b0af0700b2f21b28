"""Devices to mesh axes: what is given stands, and device_strategy's axis takes what is left.

`data` holds the slices (the slow network between them only ever adds gradients), so it is a multiple of their number.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vishwamai.contract.config.tpu import DeviceStrategy
from vishwamai.contract.resolved import MESH_AXES, Mesh

AXIS_OF: Mapping[DeviceStrategy, str] = {
    "data_parallel": "data",
    "fsdp": "fsdp",
    "model_parallel": "model",
    "sequence_parallel": "sequence",
}


@dataclass(frozen=True, slots=True)
class MeshRequest:
    """What a config says about the mesh."""

    axes: Mapping[str, int]
    """The axes given."""
    strategy: DeviceStrategy
    divides: Mapping[str, int]
    """An axis chosen here must divide this: heads, key/value heads and MLP for `model`, the window for `sequence`."""
    num_slices: int

    @property
    def product(self) -> int:
        """Devices that the given axes take, at least."""
        return math.prod(self.axes.values())

    def on(self, devices: int) -> Mesh | None:
        """The mesh of so many devices; None when what was given does not multiply to them."""
        axes = {"data": self.num_slices, **self.axes}
        if axes["data"] % self.num_slices or devices % math.prod(axes.values()):
            return None
        rest = devices // math.prod(axes.values())
        axis = AXIS_OF[self.strategy]
        if axis not in axes:
            axes[axis] = math.gcd(rest, self.divides.get(axis, rest))
            rest //= axes[axis]
            if "data" in self.axes and "fsdp" not in axes:
                axes["fsdp"] = rest
                rest = 1
        if "data" not in self.axes:
            axes["data"] *= rest
            rest = 1
        return Mesh(**axes) if rest == 1 else None

    def alternatives(self, devices: int) -> list[Mesh]:
        """Meshes of so many devices that change the given axes least."""
        meshes = dict.fromkeys(self._one_axis_changed(devices))
        return list(meshes)[:4] or [Mesh(data=devices)]

    def _one_axis_changed(self, devices: int) -> Iterator[Mesh]:
        axes = {"data": self.num_slices, **self.axes}
        for axis in sorted(MESH_AXES, key=lambda name: name not in self.axes):
            others = math.prod(n for name, n in axes.items() if name != axis)
            if devices % others:
                continue
            size = devices // others
            of_slices = size if axis == "data" else axes["data"]
            if of_slices % self.num_slices == 0 and self.divides.get(axis, size) % size == 0:
                yield Mesh(**(axes | {axis: size}))


def in_words(mesh: Mesh | Mapping[str, int]) -> str:
    """A mesh as 'data 8 x model 1 = 8'; axes of 1 that nobody named are left out."""
    if isinstance(mesh, Mesh):
        axes: Mapping[str, int] = {name: n for name in MESH_AXES if (n := getattr(mesh, name)) > 1} or {"data": 1}
    else:
        axes = mesh
    product = math.prod(axes.values())
    return " x ".join(f"{name} {n}" for name, n in axes.items()) + (f" = {product}" if len(axes) > 1 else "")
