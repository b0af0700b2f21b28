"""What a plan says: whether a job's step fits a slice, and what it costs there, by the TPU compiler's own reckoning."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.resolved import Decision, Mesh

Pass = Literal["forward", "recompute", "backward", "outside"]
"""Which part of the gradient an operation serves; "recompute" is forward work done again in the backward pass, and
"outside" what serves none of them: the update, metrics, the compiler's own copies."""

CostKind = Literal[
    "matmul",
    "kernel",
    "collective",
    "optimizer",
    "gather_scatter",
    "copy",
    "other",
    "collective_async",
    "copy_async",
    "between_slices",
]
BESIDE: frozenset[CostKind] = frozenset({"collective_async", "copy_async", "between_slices"})
"""Kinds that run beside the compute: reported, and not part of the total."""


class PlanMemory(Value):
    """Bytes in the high-bandwidth memory of one device."""

    arguments: int | None = Field(None, description="State and batch going in; null when the compiler gave up.")
    outputs: int | None = Field(None, description="New state and metrics.")
    aliased: int | None = Field(None, description="Outputs that take the place of arguments.")
    temporaries: int | None = Field(None, description="Activations, gradients and the rest of the step's own.")
    program: int | None = Field(None, description="The program's code.")
    host: int = Field(0, description="Offloaded to the host, for each device.")
    required: int = Field(description="arguments + outputs - aliased + temporaries, or what the compiler asked for.")
    available: int = Field(description="What the compiler may use.")

    @property
    def headroom(self) -> int:
        """Bytes left; negative: by how much it does not fit."""
        return self.available - self.required


class CostShare(Value):
    """Cycles of one kind of work."""

    kind: CostKind = Field(
        description="matmul, kernel (Pallas), collective, optimizer, gather_scatter, copy or other; beside the "
        "compute: collective_async, copy_async or between_slices."
    )
    cycles: int = Field(description="Of a step.")
    share: float = Field(description="Of the step's cycles; of work beside the compute, what it would be.")
    bytes: int = Field(0, description="Moved, where work is counted by bytes.")


class PartCost(Value):
    """Cycles of one function of the trainer, in one pass."""

    part: str = Field(
        description="Such as 'model/layers.py Mlp.__call__'; 'compiler' for what only the compiler wanted."
    )
    which: Pass = Field(description="forward, recompute, backward; outside: the update, metrics, copies.")
    cycles: int = Field(description="Of a step.")
    share: float = Field(description="Of the step's cycles.")


class OperationCost(Value):
    """One operation of the compiled step."""

    name: str = Field(description="In the compiled program.")
    part: str = Field(description="Function of the trainer that it comes from.")
    which: Pass = Field(description="As in parts.")
    kind: CostKind = Field(description="As in kinds.")
    cycles: int = Field(description="Of a step.")
    share: float = Field(description="Of the step's cycles.")
    times: float = Field(description="Executions in a step, on average where loops vary.")
    how: str = Field(description="Where the figure comes from.")
    op_name: str = Field(description="JAX's own path to it.")


class PlanCost(Value):
    """Static cost of a step on one device. It compares programs for one TPU; it is not a measured time."""

    cycles_per_step: int = Field(description="Of one device; without what runs beside.")
    cycles_per_token: float = Field(description="By the tokens of one device.")
    step_seconds: float = Field(description="At the nominal clock.")
    tokens_per_second: float = Field(description="Of all devices, at the nominal clock.")
    mfu: float = Field(description="Model FLOPs of a step / what the device's published peak does in that time.")
    ideal_cycles: int = Field(
        description="Model FLOPs at the rate that the compiler gives a large matrix product; "
        "ideal_cycles / cycles_per_step compares with other trainers costed the same way."
    )
    model_flops_per_token: float = Field(
        description="6 x weights of matrix products + 12 x width of the heads x keys that a token sees on average, "
        "over the layers. Recomputation is not in it."
    )
    kinds: list[CostShare] = Field(description="By kind of work, the dearest first.")
    beside: list[CostShare] = Field(description="Work beside the compute, not part of cycles_per_step.")
    parts: list[PartCost] = Field(description="By function of the trainer and pass, the dearest first.")
    operations: list[OperationCost] = Field(description="The dearest operations.")


class Plan(Value):
    """A job's step, compiled for a slice."""

    version: Literal[1] = Field(1, description="Of this form.")
    accelerator: str = Field(description="Generation: v3, v4, v5e, v5p, v6e, tpu7x.")
    topology: str = Field(description="Chips along each side of a slice.")
    num_slices: int = Field(description="Slices joined over the data-centre network.")
    devices: int = Field(description="JAX devices of all slices.")
    mesh: Mesh = Field(description="Devices along each mesh axis.")
    parameters: int = Field(description="Trainable parameters of the model.")
    tokens_per_step: int = Field(description="Of all devices.")
    tokens_per_device: int = Field(description="Tokens of a step / devices.")
    fits: bool = Field(description="Whether the compiler took the step.")
    memory: PlanMemory
    cost: PlanCost | None = Field(None, description="Null when it does not fit.")
    advice: list[str] = Field(description="Settings that would lower the memory, when it does not fit.")
    decisions: list[Decision] = Field(
        description="Settings that this slice decides otherwise than the config's own would."
    )
    notes: list[str] = Field(description="What the figures leave out or assume.")
    versions: dict[str, str] = Field(description="jax and libtpu.")
    compile_seconds: float = Field(description="The compiler's own time.")
