"""Devices to mesh axes: what is given stands, and device_strategy's axis takes what is left.

`data` holds the slices (the slow network between them only ever adds gradients), so it is a multiple of their number.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

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

    def alternatives(self, devices: int, most: int = 4) -> list[Mesh]:
        """Meshes of so many devices that change little of what was given: few axes, and those by small factors."""
        given = {axis: self.axes.get(axis, self.num_slices if axis == "data" else 1) for axis in MESH_AXES}

        def change(mesh: Mesh) -> tuple[float, ...]:
            factors = {
                axis: getattr(mesh, axis) / given[axis] for axis in MESH_AXES if getattr(mesh, axis) != given[axis]
            }
            return len(factors), sum(axis not in self.axes for axis in factors), sum(map(_size, factors.values()))

        meshes = sorted(dict.fromkeys(self._two_axes_changed(devices, given)), key=change)
        return meshes[:most] or [Mesh(data=devices)]

    def _two_axes_changed(self, devices: int, given: Mapping[str, int]) -> Iterator[Mesh]:
        for one, other in combinations(MESH_AXES, 2):
            rest, remainder = divmod(devices, math.prod(n for axis, n in given.items() if axis not in (one, other)))
            for size in _divisors(rest) if remainder == 0 else ():
                axes = {**given, one: size, other: rest // size}
                fits = all(n == given[axis] or self.divides.get(axis, n) % n == 0 for axis, n in axes.items())
                if fits and axes["data"] % self.num_slices == 0:
                    yield Mesh(**axes)


def _size(factor: float) -> float:
    return abs(math.log(factor))


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def in_words(mesh: Mesh | Mapping[str, int]) -> str:
    """A mesh as 'data 8 x model 1 = 8'; axes of 1 that nobody named are left out."""
    if isinstance(mesh, Mesh):
        axes: Mapping[str, int] = {name: n for name in MESH_AXES if (n := getattr(mesh, name)) > 1} or {"data": 1}
    else:
        axes = mesh
    product = math.prod(axes.values())
    return " x ".join(f"{name} {n}" for name, n in axes.items()) + (f" = {product}" if len(axes) > 1 else "")
