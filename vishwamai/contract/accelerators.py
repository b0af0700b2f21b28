"""The catalogue of TPU generations: chips, GKE machines, and the slices that can be made of them.

The facts are data (`accelerators.json`); what is code here is the rule for three-dimensional slices: one host is 2x2x1;
up to 64 chips there are 2x2x2, 2x2x4, 2x4x4 and 4x4x4; above, every side is a multiple of 4 and A <= B <= C.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from vishwamai.contract.api import AcceleratorFacts, AcceleratorList, MachineFacts
from vishwamai.contract.nearness import nearest
from vishwamai.contract.problems import InvalidConfig, Problem

SMALL_TORI = ("2x2x2", "2x2x4", "2x4x4", "4x4x4")


@dataclass(frozen=True, slots=True)
class Machine:
    """A GKE machine type with TPU chips."""

    machine_type: str
    label: str
    """cloud.google.com/gke-tpu-accelerator of its nodes."""
    chips: int
    vcpus: int
    memory_gb: int
    single_host: tuple[str, ...]
    multi_host: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """One TPU generation; rates and sizes are per chip."""

    name: str
    aliases: tuple[str, ...]
    dimensions: Literal[2, 3]
    tensor_cores_per_chip: int
    devices_per_chip: int
    """JAX devices: one per chip where XLA drives both TensorCores as one (megacore)."""
    hbm_bytes_per_chip: int
    hbm_bytes_per_second: float
    ici_bytes_per_second_per_link: float | None
    peak_bf16_flops: float
    peak_int8_flops: float | None
    peak_fp8_flops: float | None
    """Equal to the bfloat16 rate where FP8 has no units of its own; None where it is not offered at all."""
    clock_hz: float
    """Nominal."""
    mxu_side: int
    """Rows and columns of a matrix unit; operands are padded to it."""
    matmul_flops_per_cycle: float
    """What one JAX device reaches on a large bfloat16 product, by the TPU compiler's own estimate."""
    compiler_hbm_bytes: int
    """Memory of one JAX device that the compiler may use."""
    multi_slice: bool
    machines: tuple[Machine, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """GKE labels of its machines."""
        return tuple(dict.fromkeys(machine.label for machine in self.machines))

    @property
    def hbm_bytes_per_device(self) -> int:
        """Memory of one JAX device."""
        return self.hbm_bytes_per_chip // self.devices_per_chip

    def answers_to(self, name: str) -> bool:
        """Whether a name, alias or GKE label means this generation."""
        return name.casefold() in {self.name, *self.aliases, *self.labels}


@dataclass(frozen=True, slots=True)
class Slice:
    """Chips joined by their own network, on machines of one type."""

    generation: Generation
    machine: Machine
    topology: str

    @property
    def chips(self) -> int:
        """Chips of the slice."""
        return math.prod(sides(self.topology))

    @property
    def hosts(self) -> int:
        """Machines of the slice."""
        return self.chips // self.machine.chips

    @property
    def devices(self) -> int:
        """JAX devices of the slice."""
        return self.chips * self.generation.devices_per_chip

    @property
    def tensor_cores(self) -> int:
        """TensorCores of the slice; what names such as v5p-16 count."""
        return self.chips * self.generation.tensor_cores_per_chip


@cache
def sides(topology: str) -> tuple[int, ...]:
    """The chips along each side of a topology such as 2x2x4."""
    return tuple(int(side) for side in topology.split("x"))


def same_shape(one: str, other: str) -> bool:
    """Whether two topologies differ at most in the order of their sides and in sides of 1."""
    return sorted(n for n in sides(one) if n > 1) == sorted(n for n in sides(other) if n > 1)


@cache
def generations() -> tuple[Generation, ...]:
    """All generations, the preferred first."""
    text = resources.files("vishwamai.contract").joinpath("accelerators.json").read_text(encoding="utf-8")
    return tuple(_generation(entry) for entry in json.loads(text)["generations"])


@cache
def slices() -> tuple[Slice, ...]:
    """Every slice there is, the preferred first: by generation, then one host before several, then by size."""
    found = []
    for generation in generations():
        own = [
            Slice(generation, machine, topology)
            for machine in generation.machines
            for topology in (*machine.single_host, *machine.multi_host)
        ]
        found += sorted(own, key=lambda s: (generation.labels.index(s.machine.label), s.hosts, sum(sides(s.topology))))
    return tuple(found)


def find_generation(name: str) -> Generation:
    """The generation that a name, alias or GKE label means; raises InvalidConfig listing the names there are."""
    for generation in generations():
        if generation.answers_to(name):
            return generation
    raise InvalidConfig([unknown_accelerator(name)])


def unknown_accelerator(name: str) -> Problem:
    """What to say about a name that no generation answers to."""
    hint = None
    base, _, count = name.casefold().rpartition("-")
    typed = next((g for g in generations() if base and g.answers_to(base)), None)
    if typed and count.isdecimal() and len(count) < 8:
        hint = _hint_for_type_name(typed, int(count))
    elif near := nearest(name, [n for g in generations() for n in (g.name, *g.aliases, *g.labels)]):
        hint = f"did you mean {near}?"
    return Problem(
        pointer="/tpu/accelerator",
        message=f'tpu.accelerator is "{name[:80]}", which is no TPU generation',
        value=name[:80],
        accepted=", ".join(g.name for g in generations())
        + ", or a GKE label: "
        + ", ".join(label for g in generations() for label in g.labels),
        hint=hint,
    )


def _hint_for_type_name(generation: Generation, cores: int) -> str:
    """How to ask for v5p-16: such names count TensorCores."""
    named = next((s for s in slices() if s.generation is generation and s.tensor_cores == cores), None)
    write = f'write "accelerator": "{generation.name}"'
    return f'{write} and "tpu_topology": "{named.topology}"' if named else write


def slice_for(accelerator: str, topology: str, *, multi_host: bool = False) -> Slice:
    """The slice of a generation (or of one GKE label's machines) with a topology.

    One host is preferred to several, unless `multi_host`. Raises InvalidConfig with the topologies that would do.
    """
    generation = find_generation(accelerator)
    own = [s for s in slices() if s.generation is generation and (s.hosts > 1 or not multi_host)]
    if accelerator.casefold() in generation.labels and accelerator.casefold() != generation.name:
        own = [s for s in own if s.machine.label == accelerator.casefold()]
    for candidate in own:
        if same_shape(candidate.topology, topology):
            return candidate
    raise InvalidConfig(
        [
            Problem(
                pointer="/tpu/tpu_topology",
                message=f"tpu.tpu_topology is {topology}, which is no slice of {accelerator}",
                value=topology,
                accepted=", ".join(near_topologies(own, math.prod(sides(topology)))),
            )
        ]
    )


def near_topologies(among: list[Slice], chips: int, count: int = 6) -> list[str]:
    """Topologies with about so many chips, smallest first."""
    by_shape = {candidate.topology: candidate.chips for candidate in among}
    closest = sorted(by_shape, key=lambda t: abs(math.log(by_shape[t] / chips)))[:count]
    return sorted(closest, key=lambda t: by_shape[t])


def accelerator_list() -> AcceleratorList:
    """The catalogue as the API gives it."""
    return AcceleratorList(accelerators=[_facts(generation) for generation in generations()])


def _facts(generation: Generation) -> AcceleratorFacts:
    return AcceleratorFacts(
        name=generation.name,
        labels=list(generation.labels),
        dimensions=generation.dimensions,
        devices_per_chip=generation.devices_per_chip,
        hbm_bytes_per_device=generation.hbm_bytes_per_device,
        hbm_bytes_per_second=generation.hbm_bytes_per_second,
        peak_bf16_flops_per_chip=generation.peak_bf16_flops,
        peak_int8_flops_per_chip=generation.peak_int8_flops,
        peak_fp8_flops_per_chip=generation.peak_fp8_flops,
        machines=[
            MachineFacts(
                machine_type=machine.machine_type,
                label=machine.label,
                chips=machine.chips,
                vcpus=machine.vcpus,
                memory_gb=machine.memory_gb,
                single_host_topologies=list(machine.single_host),
                multi_host_topologies=list(machine.multi_host),
            )
            for machine in generation.machines
        ],
    )


def _generation(entry: dict[str, Any]) -> Generation:
    facts = dict(entry)
    return Generation(
        aliases=tuple(facts.pop("aliases")),
        machines=tuple(_machine(machine) for machine in facts.pop("machines")),
        **facts,
    )


def _machine(entry: dict[str, Any]) -> Machine:
    facts = dict(entry)
    largest = facts.pop("torus_up_to", None)
    multi_host = _tori(largest) if largest else tuple(facts.pop("multi_host", ()))
    return Machine(single_host=tuple(facts.pop("single_host")), multi_host=multi_host, **facts)


def _tori(largest: str) -> tuple[str, ...]:
    """Multi-host three-dimensional slices up to the largest, smallest first."""
    a_max, b_max, c_max = sides(largest)
    large = [
        (a, b, c)
        for a in range(4, a_max + 1, 4)
        for b in range(a, b_max + 1, 4)
        for c in range(b, c_max + 1, 4)
        if a * b * c > 64
    ]
    return SMALL_TORI + tuple(f"{a}x{b}x{c}" for a, b, c in sorted(large, key=lambda s: (math.prod(s), s[2])))
