"""A resolved job: what was asked, what will run, and why the two differ."""

from typing import Any, Literal

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.config import ModelSection, TrainingConfig
from vishwamai.contract.config.distillation import TeacherType
from vishwamai.contract.problems import Notice

Platform = Literal["tpu", "cpu", "gpu"]
ComputeType = Literal["bfloat16", "float32"]
EightBit = Literal["int8", "float8_e4m3fn"]
Products = Literal["compute", "fp8", "int8"]
LowPrecisionPart = Literal["attention", "mlp"]
AttentionKind = Literal["dense", "blockwise", "flash", "splash", "cudnn"]
RematPolicy = Literal["none", "dots", "attention", "offload", "full"]
MESH_AXES = ("data", "fsdp", "sequence", "model")
"""Mesh axes from the slowest network to the fastest."""


class SiteDefaults(Value):
    """What the site adds to a config: where jobs run and what they get when they do not say."""

    platform: Platform = "tpu"
    accelerator: str | None = Field(None, description="Generation to prefer where several fit.")
    teachers: dict[str, str] = Field({}, description="Folders of the teachers that configs may name.")


class Decision(Value):
    """One setting whose effective value needs a word: chosen, derived, or other than requested."""

    setting: str = Field(description="Dotted name, e.g. 'tpu.mesh_shape' or 'execution.attention'.")
    requested: Any = Field(None, description="What the config said; null when it said nothing.")
    effective: Any = Field(description="What runs.")
    why: str


class Hardware(Value):
    """The slice (or slices) that the job occupies."""

    platform: Platform = Field(description="Where the processes run; 'cpu' rehearses the slice on virtual devices.")
    accelerator: str = Field(description="Generation: v3, v4, v5e, v5p, v6e, tpu7x.")
    accelerator_label: str = Field(description="GKE's cloud.google.com/gke-tpu-accelerator.")
    machine_type: str
    topology: str
    chips_per_slice: int
    hosts_per_slice: int
    chips_per_host: int
    devices_per_chip: int
    num_slices: int
    spot: bool

    @property
    def hosts(self) -> int:
        """Hosts of all slices."""
        return self.hosts_per_slice * self.num_slices

    @property
    def devices(self) -> int:
        """JAX devices of all slices."""
        return self.chips_per_slice * self.devices_per_chip * self.num_slices


class Mesh(Value):
    """Devices along each mesh axis."""

    data: int = 1
    fsdp: int = 1
    sequence: int = 1
    model: int = 1

    @property
    def devices(self) -> int:
        """Product of all axes."""
        return self.data * self.fsdp * self.sequence * self.model


class Precision(Value):
    """Number formats of the step."""

    compute: ComputeType = Field(description="Activations and matrix products.")
    parameters: Literal["float32"] = Field("float32", description="Master weights.")
    optimizer_state: ComputeType = Field("float32", description="AdamW's moments.")
    products: Products = Field(
        "compute",
        description="What projections multiply: numbers of the compute type; fp8: e4m3, and e5m2 for gradients; int8, "
        "except in weights' gradients. Sums are float32 (int32).",
    )
    products_in: list[LowPrecisionPart] = Field([], description="Whose projections those are, unless compute.")
    scaling: Literal["none", "tensor", "token"] = Field(
        "none", description="What shares a scale among eight-bit numbers; token: a token of activations, and a weight."
    )
    loss_scale: Literal["none", "dynamic"] = Field(
        "none", description="dynamic: the loss is scaled up, and a step whose gradients overflow is skipped."
    )


class Execution(Value):
    """How the step is computed."""

    attention: AttentionKind = Field(
        description="dense: all scores at once; blockwise: block by block, in plain XLA; flash: our TPU kernel; "
        "splash: JAX's TPU kernel; cudnn: the GPU library's."
    )
    attention_block: int = Field(description="Keys per block of blockwise attention.")
    remat: RematPolicy = Field(
        description="What of a layer is kept for the backward pass, beside its input; the rest is computed again. "
        "none: all is kept; dots: results of matrix products; attention: attention's result; offload: attention's "
        "result, and inputs wait in host memory; full: nothing."
    )
    scan_layers: bool = Field(True, description="One compiled layer visited in a loop, or every layer compiled.")
    loss_chunk_tokens: int = Field(description="Tokens of a device whose logits exist at one time.")
    loss_shift: Literal["max", "label"] = Field(
        "max",
        description="What is subtracted from logits before exp: their maximum, or the target's own logit, which needs "
        "no pass of its own and holds until a token's loss exceeds 88 nats; a step where it does is skipped, and "
        "training goes on with the maximum.",
    )
    weight_axes: list[str] = Field(
        description="Mesh axes that split weights and optimizer state; [] keeps full copies."
    )
    weight_gather: Literal["step", "layer"] = Field(
        "layer", description="Split weights are gathered once a step and kept, or layer by layer where needed."
    )


class Batch(Value):
    """How many sequences and tokens make one optimizer step."""

    sequences_per_micro_batch: int = Field(description="Over all devices, in one forward pass.")
    accumulation: int
    sequences_per_step: int
    tokens_per_step: int


class Teacher(Value):
    """The model that a job learns from, as the trainer found it."""

    kind: Literal["huggingface", "run"]
    folder: str = Field(description="Of a Hugging Face checkpoint, or a run's output.")
    step: int | None = Field(None, description="The run's checkpoint; null: its newest.")
    model: ModelSection
    dtype: TeacherType = Field(
        description="Of its weights; the eight-bit ones are for the projections of its layers, with a scale for each "
        "output channel, and all else is in what the step computes in."
    )
    attention: AttentionKind
    weight_gather: Literal["step", "layer"] = Field(description="As execution.weight_gather, for its weights.")
    layers: list[tuple[int, int]] = Field(
        description="Layers whose outputs are compared, [student, teacher], from 1; [] compares none."
    )

    @property
    def eight_bit(self) -> EightBit | None:
        """The eight-bit format of its layers' projections, if they have one."""
        return None if self.dtype == "float32" or self.dtype == "bfloat16" else self.dtype

    def projects(self, width: int) -> bool:
        """Whether hidden states of this width need a learned projection to be compared with the teacher's."""
        return bool(self.layers) and self.model.hidden_dim != width


class ResolvedJob(Value):
    """All that a launcher and a trainer need; written to the job's `resolved.json`."""

    version: Literal[1] = 1
    requested: dict[str, Any] = Field(description="The config verbatim.")
    effective: TrainingConfig = Field(
        description="The config with every choice made; resolving it again changes nothing."
    )
    hardware: Hardware
    mesh: Mesh
    precision: Precision
    execution: Execution
    batch: Batch
    parameters: int = Field(description="Trainable parameters of the model.")
    teacher: Teacher | None = Field(None, description="Found by the trainer when the config has a teacher.")
    decisions: list[Decision]
    warnings: list[Notice]

    @property
    def blockers(self) -> list[Notice]:
        """Warnings that forbid launching."""
        return [notice for notice in self.warnings if notice.blocks_launch]
