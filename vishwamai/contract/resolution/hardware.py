"""The slice that `placement` chose, as hardware and as decisions a reader can follow."""

from vishwamai.contract.accelerators import Slice, slice_for, slices
from vishwamai.contract.config.tpu import DeviceStrategy
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.mesh import AXIS_OF, in_words
from vishwamai.contract.resolution.placement import Placement
from vishwamai.contract.resolved import MESH_AXES, Hardware, Platform

LIMITS = {"model": "heads and MLP", "sequence": "window"}
"""What an axis splits into equal parts, so that it cannot take any number of devices."""


def describe(placement: Placement, platform: Platform, *, spot: bool) -> Hardware:
    """The hardware of a placement."""
    chosen = placement.slice
    return Hardware(
        platform=platform,
        accelerator=chosen.generation.name,
        accelerator_label=chosen.machine.label,
        machine_type=chosen.machine.machine_type,
        topology=chosen.topology,
        chips_per_slice=chosen.chips,
        hosts_per_slice=chosen.hosts,
        chips_per_host=chosen.machine.chips,
        devices_per_chip=chosen.generation.devices_per_chip,
        num_slices=placement.num_slices,
        spot=spot,
    )


def settle(draft: Draft, placement: Placement, platform: Platform) -> None:
    """Writes accelerator, topology, cores and mesh into the draft and says how each came about."""
    _accelerator(draft, placement)
    _topology(draft, placement)
    _cores(draft, placement)
    _machine(draft, placement)
    _mesh(draft, placement)
    if platform != "tpu":
        _rehearsal(draft, placement, platform)


def _accelerator(draft: Draft, placement: Placement) -> None:
    chosen, asked = placement.slice, draft.asked.get("tpu.accelerator")
    name = chosen.generation.name
    several = placement.num_slices > 1
    by_name = slice_for(name, chosen.topology, multi_host=several)
    # The label says more than the generation where it picks machines that the generation alone would not.
    effective = name if by_name == chosen else chosen.machine.label
    if asked is None:
        what = [f"{_count(chosen.chips, 'chip')} as {chosen.topology}"]
        what += [f"tpu_cores {draft['tpu.tpu_cores']}"] if "tpu.tpu_cores" in draft.asked else []
        what += (
            [f"a mesh of {_count(placement.devices, 'device')}"] if "tpu.mesh_shape" in _asked_sections(draft) else []
        )
        choice = (
            f"{', '.join(placement.others)} would do as well: set tpu.accelerator to choose"
            if placement.others
            else "no other fits"
        )
        draft.decide("tpu.accelerator", effective, f"not given; {name} has {', '.join(what)}; {choice}")
    elif asked != effective:
        draft.decide("tpu.accelerator", effective, f'"{asked}" is another name of {name}')


def _asked_sections(draft: Draft) -> set[str]:
    return {name.rpartition(".")[0] for name in draft.asked.settings if draft.asked.get(name) is not None}


def _topology(draft: Draft, placement: Placement) -> None:
    chosen, asked = placement.slice, draft.asked.get("tpu.tpu_topology")
    if asked == chosen.topology:
        return
    if asked is not None:
        why = f"the same slice, as {chosen.generation.name} writes it"
    elif chosen.topology == draft["tpu.tpu_topology"]:
        why = f"the default: {chosen.chips} chips"
    else:
        why = f"not given; the {chosen.generation.name} slice of {_devices(chosen)} fits what was asked"
    draft.decide("tpu.tpu_topology", chosen.topology, why)


def _cores(draft: Draft, placement: Placement) -> None:
    chosen, reading = placement.slice, placement.reading
    if "tpu.tpu_cores" not in draft.asked:
        draft.decide(
            "tpu.tpu_cores",
            placement.devices,
            f"not given: {chosen.topology} has {_devices(chosen)}{_times(placement)}",
        )
        return
    generation = chosen.generation
    cores = _count(generation.tensor_cores_per_chip, "TensorCore")
    facts = f"a {generation.name} chip has {cores} and is {_count(generation.devices_per_chip, 'JAX device')}"
    why = f"read as {reading.unit}: {facts}, so {chosen.topology} has {_devices(chosen)}{_times(placement)}"
    draft.explain("tpu.tpu_cores", reading.count, why)


def _machine(draft: Draft, placement: Placement) -> None:
    chosen = placement.slice
    machine = chosen.machine
    hosts = _count(chosen.hosts, "host")
    why = f"{_count(machine.chips, 'chip')} to a machine, so {chosen.topology} is {hosts}{_times(placement)}"
    rivals = {
        f"{s.hosts} x {s.machine.machine_type}"
        for s in slices()
        if s.generation is chosen.generation and s.topology == chosen.topology and s.machine.label == machine.label
    } - {f"{chosen.hosts} x {machine.machine_type}"}
    if rivals and placement.num_slices > 1:
        why += f"; not {', '.join(rivals)}, because joined slices must be multi-host"
    elif rivals:
        why += f"; not {', '.join(rivals)}, because one host needs no network between processes"
    draft.explain("hardware.machine_type", machine.machine_type, why)


def _mesh(draft: Draft, placement: Placement) -> None:
    mesh, strategy = placement.mesh, draft["tpu.device_strategy"]
    given = [name for name in MESH_AXES if draft.asked.get(f"tpu.mesh_shape.{name}") is not None]
    least = {"data": placement.num_slices}
    as_given = bool(given) and all(getattr(mesh, name) == least.get(name, 1) for name in MESH_AXES if name not in given)
    if as_given:
        why = f"as given; it multiplies to the {_count(placement.devices, 'JAX device')}"
    else:
        why = f"{_count(placement.devices, 'JAX device')} as {in_words(mesh)}: "
        why += f"{', '.join(given)} as given, the rest " if given else "all "
        why += _to_axes(strategy, given, placement)
    if placement.num_slices > 1:
        why += f"; data spans the {placement.num_slices} slices, because only gradients cross the network between them"
    draft.decide("tpu.mesh_shape", mesh.model_dump(), why)
    axis = AXIS_OF[strategy]
    if "tpu.device_strategy" in draft.asked and getattr(mesh, axis) == 1 and placement.devices > 1:
        because = "mesh_shape decides" if as_given or axis in given else f"no more would divide the {LIMITS[axis]}"
        draft.explain("tpu.device_strategy", strategy, f"without effect: axis {axis} has 1 device, because {because}")


def _to_axes(strategy: DeviceStrategy, given: list[str], placement: Placement) -> str:
    """Where the devices go that mesh_shape does not place."""
    mesh, axis = placement.mesh, AXIS_OF[strategy]
    if axis in given:
        return f"to data, because mesh_shape gives {axis}"
    second = next((name for name in ("data", "fsdp") if name not in given), axis)
    least = placement.num_slices if second == "data" else 1
    if axis not in LIMITS or second == axis or getattr(mesh, second) == least:
        return f"to {axis}, as device_strategy {strategy} says"
    if getattr(mesh, axis) == 1:
        return f"to {second}, because no number of them divides the {LIMITS[axis]}, which {strategy} would split"
    return f"to {axis}, as device_strategy {strategy} says, as far as it divides the {LIMITS[axis]}, then to {second}"


def _rehearsal(draft: Draft, placement: Placement, platform: Platform) -> None:
    devices = placement.devices
    name = placement.slice.generation.name
    if platform == "cpu":
        process = f"one process with {_count(devices, 'virtual CPU device')}"
        why = f"this site trains locally: {process} rehearses the {name} slice"
    else:
        why = f"this site trains on GPUs: {_count(devices, 'device')} stand in for the {name} slice"
    draft.explain("hardware.platform", platform, why + ", with the same mesh and the same mathematics")
    for name in ("tpu.spot", "tpu.flex_start", "tpu.reservation", "tpu.compute_class", "run.queue"):
        if asked := draft.asked.get(name):
            draft.explain(name, asked, "not used: nothing is bought for a local run")


def _devices(chosen: Slice) -> str:
    return f"{_count(chosen.chips, 'chip')}, {_count(chosen.devices, 'JAX device')}"


def _times(placement: Placement) -> str:
    return f", times {placement.num_slices} slices" if placement.num_slices > 1 else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
