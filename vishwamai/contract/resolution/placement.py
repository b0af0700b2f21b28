"""Which slice a job gets: every slice of the catalogue, less those that a request excludes, the most preferred first.

Requests are applied in turn (accelerator, topology, slices, cores, mesh). The one that leaves nothing is the
contradiction, and what stood before it is what would be accepted. Settings that were not requested exclude nothing:
they only prefer.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from vishwamai.contract.accelerators import (
    Slice,
    find_generation,
    generations,
    near_topologies,
    same_shape,
    sides,
    slices,
)
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.resolution.draft import Asked
from vishwamai.contract.resolution.mesh import MeshRequest, in_words
from vishwamai.contract.resolved import MESH_AXES, Mesh

DEFAULT_CORES = 8
DEFAULT_TOPOLOGY = "2x2x2"

Choose = Callable[[Asked, list[Slice], MeshRequest], list[Slice]]
Explain = Callable[[Asked, list[Slice], MeshRequest], Problem]


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that a number of cores may count."""

    unit: str
    count: int


@dataclass(frozen=True, slots=True)
class Placement:
    """A slice, how many of it, and the mesh over their devices."""

    slice: Slice
    num_slices: int
    mesh: Mesh
    reading: Reading
    """How tpu_cores was read."""
    others: tuple[str, ...]
    """Other generations that would do as well."""

    @property
    def devices(self) -> int:
        """JAX devices of all slices."""
        return self.slice.devices * self.num_slices


@dataclass(frozen=True, slots=True)
class Misfit:
    """Requests that no slice meets together."""

    settings: tuple[str, ...]
    problem: Problem


def place(asked: Asked, divides: dict[str, int], preferred: str | None = None) -> Placement | Misfit:
    """The slice and mesh for what was asked; `divides` limits axes chosen here (see MeshRequest)."""
    tpu = asked.config.tpu
    axes = {name: n for name in MESH_AXES if (n := asked.get(f"tpu.mesh_shape.{name}")) is not None}
    mesh = MeshRequest(axes, tpu.device_strategy, divides, tpu.num_slices)
    steps: list[tuple[str, Choose, Explain]] = [
        ("tpu.accelerator", _of_accelerator, _no_accelerator),
        ("tpu.tpu_topology", _of_topology, _no_topology),
        ("tpu.num_slices", _joinable, _no_multi_slice),
        ("tpu.tpu_cores", _with_cores, _no_cores),
        ("tpu.mesh_shape", _carrying_mesh, _no_mesh),
    ]
    candidates = list(slices())
    seen: list[str] = []
    for setting, choose, explain in steps:
        seen += [setting] if setting in asked or (setting == "tpu.mesh_shape" and axes) else []
        remaining = choose(asked, candidates, mesh)
        if not remaining:
            return Misfit(tuple(reversed(seen)), explain(asked, candidates, mesh))
        candidates = remaining
    return _chosen(candidates, asked, mesh, preferred)


def readings(candidate: Slice, asked: Asked) -> list[Reading]:
    """What 'cores' may mean on a slice, the likeliest first; chips only of a generation that was asked for by name."""
    units = {"JAX devices": candidate.devices, "TensorCores": candidate.tensor_cores}
    units |= {"chips": candidate.chips} if "tpu.accelerator" in asked else {}
    num_slices = asked.config.tpu.num_slices
    found = [Reading(unit, n * num_slices) for unit, n in units.items()]
    if num_slices > 1:
        found += [Reading(f"{unit} of one slice", n) for unit, n in units.items()]
    return found


def _chosen(candidates: list[Slice], asked: Asked, mesh: MeshRequest, preferred: str | None) -> Placement:
    tpu = asked.config.tpu
    order = [generation.name for generation in generations()]

    def preference(candidate: Slice) -> tuple[float, ...]:
        cores = _reading(candidate, asked)
        units = [reading.unit for reading in readings(candidate, asked)]
        name = candidate.generation.name
        return (
            not (preferred and candidate.generation.answers_to(preferred)),
            order.index(name),
            units.index(cores.unit) if cores else 0,
            abs(candidate.devices - DEFAULT_CORES) if "tpu.tpu_cores" not in asked else 0,
            candidate.topology != DEFAULT_TOPOLOGY,
        )

    best = min(candidates, key=preference)  # of equals the first: one host, the least elongated
    completed = mesh.on(best.devices * tpu.num_slices)
    assert completed is not None, "only slices that carry the mesh are candidates"
    names = dict.fromkeys(c.generation.name for c in candidates if c.generation is not best.generation)
    reading = _reading(best, asked) or Reading("JAX devices", best.devices * tpu.num_slices)
    return Placement(best, tpu.num_slices, completed, reading, tuple(names))


def _of_accelerator(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> list[Slice]:
    accelerator = asked.get("tpu.accelerator")
    return candidates if accelerator is None else [c for c in candidates if _is_of(c, accelerator)]


def _is_of(candidate: Slice, accelerator: str) -> bool:
    name = accelerator.casefold()
    if name in candidate.generation.labels:
        return candidate.machine.label == name
    return candidate.generation.answers_to(name)


def _of_topology(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> list[Slice]:
    topology = asked.get("tpu.tpu_topology")
    if topology is None:
        return candidates
    same = [c for c in candidates if same_shape(c.topology, topology)]
    # 2x2 may mean v4's 2x2x1 when v4 was asked for, but alone it means a two-dimensional slice.
    dimensions = len(sides(topology))
    return same if "tpu.accelerator" in asked else [c for c in same if c.generation.dimensions == dimensions]


def _joinable(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> list[Slice]:
    return candidates if mesh.num_slices == 1 else [c for c in candidates if _joins_others(c)]


def _joins_others(candidate: Slice) -> bool:
    return candidate.generation.multi_slice and candidate.hosts > 1


def _with_cores(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> list[Slice]:
    return candidates if "tpu.tpu_cores" not in asked else [c for c in candidates if _reading(c, asked) is not None]


def _reading(candidate: Slice, asked: Asked) -> Reading | None:
    cores = asked.get("tpu.tpu_cores")
    return next((r for r in readings(candidate, asked) if r.count == cores), None)


def _carrying_mesh(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> list[Slice]:
    sizes = {c.devices for c in candidates}
    if "tpu.tpu_cores" not in asked and "tpu.tpu_topology" not in asked:
        # A mesh alone may ask for more than the default, but never buys more than itself.
        limit = max(DEFAULT_CORES, mesh.product, min(sizes))
        sizes = {size for size in sizes if size <= limit}
    carrying = {size for size in sizes if mesh.on(size * mesh.num_slices) is not None}
    return [c for c in candidates if c.devices in carrying]


def _no_accelerator(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> Problem:
    try:
        find_generation(str(asked.get("tpu.accelerator")))
    except InvalidConfig as error:
        return error.problems[0]
    raise AssertionError("every known accelerator has slices")


def _no_topology(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> Problem:
    topology = str(asked.get("tpu.tpu_topology"))
    accelerator = asked.get("tpu.accelerator")
    chips = 1
    for side in sides(topology):
        chips *= side
    shaped = [c for c in candidates if accelerator or c.generation.dimensions == len(sides(topology))]
    where = f"{accelerator} has" if accelerator else "GKE has on any TPU generation"
    return Problem(
        pointer="/tpu/tpu_topology",
        message=f'tpu.tpu_topology is "{topology}" ({chips} chips), which is no slice that {where}',
        value=topology,
        accepted="near that size: " + ", ".join(near_topologies(shaped, chips)),
        hint=_generation_of_topology(topology) if accelerator else None,
    )


def _generation_of_topology(topology: str) -> str | None:
    names = dict.fromkeys(
        s.generation.name
        for s in slices()
        if same_shape(s.topology, topology) and len(sides(topology)) == s.generation.dimensions
    )
    return f"{topology} exists on {', '.join(names)}" if names else None


def _no_multi_slice(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> Problem:
    count = asked.config.tpu.num_slices
    able = [s for s in _of_accelerator(asked, list(slices()), mesh) if _joins_others(s)]
    if able:
        chips = min(candidate.chips for candidate in candidates)
        why = f"a slice of {candidates[0].topology} is on one host; several slices must be multi-host"
        accepted, hint = f"1, or a topology such as {', '.join(near_topologies(able, chips))}", None
    else:
        why = f"slices of {candidates[0].generation.name} cannot be joined"
        joinable = dict.fromkeys(s.generation.name for s in slices() if _joins_others(s))
        accepted, hint = "1", f"slices of {', '.join(joinable)} can be joined"
    return Problem(
        pointer="/tpu/num_slices",
        message=f"tpu.num_slices is {count}, but {why}",
        value=count,
        accepted=accepted,
        hint=hint,
    )


def _no_cores(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> Problem:
    cores = asked.config.tpu.tpu_cores
    found = [reading for candidate in candidates for reading in readings(candidate, asked)]
    counts = sorted({reading.count for reading in found}, key=lambda n: (abs(n - cores), n))
    units = _listed([reading.unit for reading in found])
    return Problem(
        pointer="/tpu/tpu_cores",
        message=f"tpu.tpu_cores is {cores}, which no {_kind_of_slice(asked)} has, whether {units} are counted",
        value=cores,
        accepted=", ".join(str(n) for n in sorted(counts[:6])),
        hint="give tpu_cores or tpu_topology, and the other follows" if "tpu.tpu_topology" in asked else None,
    )


def _no_mesh(asked: Asked, candidates: list[Slice], mesh: MeshRequest) -> Problem:
    wanted = asked.get("tpu.tpu_cores") or mesh.product
    counts = sorted({c.devices * mesh.num_slices for c in candidates}, key=lambda n: (abs(n - wanted), n))
    if mesh.axes.get("data", mesh.num_slices) % mesh.num_slices:
        why = f"but data does not divide over {mesh.num_slices} slices"
    elif len(counts) == 1:
        why = f"but there are {counts[0]} devices ({_hardware(candidates[0], mesh)})"
    else:
        cores = f" with tpu_cores {wanted}" if "tpu.tpu_cores" in asked else ""
        why = (
            f"and no {_kind_of_slice(asked)}{cores} carries it: the nearest have {_listed(sorted(counts[:3]))} devices"
        )
    fitting = [in_words(one) for count in counts[:2] for one in mesh.alternatives(count, 4 if len(counts) == 1 else 2)]
    return Problem(
        pointer="/tpu/mesh_shape",
        message=f"tpu.mesh_shape is {in_words(mesh.axes)}{' devices' if len(mesh.axes) > 1 else ''}, {why}",
        value=dict(mesh.axes),
        accepted="; ".join(fitting),
        hint="leave out an axis, or mesh_shape altogether, and it is chosen for you",
    )


def _kind_of_slice(asked: Asked) -> str:
    """'v5e 2x4 slice': what was asked for, down to the topology."""
    names = [str(asked.get(name)) for name in ("tpu.accelerator", "tpu.tpu_topology") if name in asked]
    return " ".join([*(names or ["TPU"]), "slice"])


def _hardware(one: Slice, mesh: MeshRequest) -> str:
    several = f"{mesh.num_slices} slices of " if mesh.num_slices > 1 else ""
    chips = f"{one.chips} chip{'s' if one.chips > 1 else ''}"
    facts = "JAX device" if one.generation.devices_per_chip == 1 else "JAX devices"
    return (
        f"{several}{one.topology} on {one.generation.name}: {chips} of {one.generation.devices_per_chip} {facts} each"
    )


def _listed(items: Iterable[object]) -> str:
    """'4, 8 or 16', each once."""
    *others, last = dict.fromkeys(str(item) for item in items)
    return f"{', '.join(others)} or {last}" if others else last
