"""A rough estimate of what one device must hold; the plan asks the compiler instead.

With P parameters on a device of the model axis, W devices that split weights further, c bytes of compute type:

state        4 P / W for weights, and 4 P / W for each of two moments (2 when they are bfloat16)
gathered     c P for all weights at work; by layer, c times two layers and the tables
gradients    c P of one micro-batch, 4 P to add up several, 4 P / W of all devices; by layer, the layers' are 1 / W of
             that, and one layer's are whole; and 4 vocabulary x hidden, to which the loss adds the head's
activations  what remat keeps, over all layers; if that is all, with eight-bit products, P for the weights in eight bits
under way    the larger of: one layer's arrays in the backward pass; one chunk of logits and its float32 statistics
teacher      its weights / W and as gathered, a chunk of its logits, and the outputs of its layers; in eight bits its
             layers are gathered so, and two of them are in the compute type

Held against the TPU compiler in six cases (docs/decisions/0009): from 5% under to 17% over.
"""

import math
from dataclasses import dataclass, replace

from vishwamai.contract.accelerators import find_generation
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.resolution import size
from vishwamai.contract.resolved import Execution, Hardware, Mesh, Precision, ResolvedJob, Teacher

FLOAT32 = 4
USABLE = 0.92
"""Share of HBM left by the runtime and by fragmentation."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the estimate looks at."""

    config: TrainingConfig
    hardware: Hardware
    mesh: Mesh
    precision: Precision
    execution: Execution
    teacher: Teacher | None = None

    @classmethod
    def of(cls, job: ResolvedJob) -> "Work":
        """A resolved job's."""
        return cls(job.effective, job.hardware, job.mesh, job.precision, job.execution, job.teacher)

    @property
    def width(self) -> int:
        """Bytes of one activation."""
        return width(self.precision.compute)

    @property
    def weight_parts(self) -> int:
        """Devices that split what the model axis leaves of a weight."""
        return math.prod(getattr(self.mesh, axis) for axis in self.execution.weight_axes)

    @property
    def tokens(self) -> int:
        """Tokens of a micro-batch on one device: a model axis gives each of its devices the tokens of all."""
        return tokens_of_device(self.config, self.mesh)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on one device."""

    state: float
    gathered: float
    gradients: float
    activations: float
    under_way: float
    available: float
    teacher: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.state + self.gathered + self.gradients + self.activations + self.under_way + self.teacher

    @property
    def fits(self) -> bool:
        """Whether the device has that much to use."""
        return self.total <= self.available


def width(number_format: str) -> int:
    """Bytes of one number."""
    return 2 if number_format == "bfloat16" else FLOAT32


def tokens_of_device(config: TrainingConfig, mesh: Mesh) -> int:
    """Tokens of a micro-batch that one device works on."""
    return config.training.batch_size * config.model.max_seq_len * mesh.model


def estimate(work: Work) -> Need:
    """What a device needs and has."""
    model = work.config.model
    words = model.vocab_size / size.vocabulary_parts(model, work.mesh.model)
    logits = work.execution.loss_chunk_tokens * (words * work.width + 4 * FLOAT32)
    moments = 2 * width(work.precision.optimizer_state)
    return Need(
        state=(FLOAT32 + moments) * size.held(model, work.mesh.model) / work.weight_parts,
        gathered=_gathered(work),
        gradients=_gradients(work) + FLOAT32 * words * model.hidden_dim,
        activations=_kept(work),
        under_way=max(logits, _layer_under_way(work)),
        available=USABLE * find_generation(work.hardware.accelerator).hbm_bytes_per_device,
        teacher=_teacher(work),
    )


def _teacher(work: Work) -> float:
    """A teacher's weights as they are kept and as they are read; its chunk of logits; and its layers' outputs."""
    if work.teacher is None:
        return 0.0
    model = work.teacher.model
    execution = work.execution.model_copy(update={"weight_gather": work.teacher.weight_gather})
    config = work.config.model_copy(update={"model": model})
    theirs = replace(work, config=config, execution=execution, teacher=None)
    stored, gathered = _teacher_weights(theirs, work.teacher)
    words = model.vocab_size / size.vocabulary_parts(model, work.mesh.model)
    logits = FLOAT32 * work.execution.loss_chunk_tokens * words
    states = (model.num_layers if work.teacher.layers else 1) * work.tokens * model.hidden_dim * work.width
    return stored + gathered + logits + states


def _teacher_weights(theirs: Work, teacher: Teacher) -> tuple[float, float]:
    """Bytes as they are kept, without the scales (one number in thousands), and as the products read them."""
    layers, outside = _parts(theirs)
    if teacher.eight_bit is None:
        kept = width(teacher.dtype)
        cast = theirs.weight_parts > 1 or kept != theirs.width
        return kept * (layers + outside) / theirs.weight_parts, _gathered(theirs) if cast else 0.0
    stored = (layers + theirs.width * outside) / theirs.weight_parts
    two = 2 * layers / teacher.model.num_layers
    gathered = theirs.width * outside + (two if _by_layer(theirs) else layers) if theirs.weight_parts > 1 else 0.0
    return stored, gathered + theirs.width * two


def _parts(work: Work) -> tuple[float, float]:
    """Parameters in layers and outside of them on a device of the model axis, as a gather makes them whole."""
    model, axis = work.config.model, work.mesh.model
    outside = size.tables(model) / size.vocabulary_parts(model, axis) + model.hidden_dim
    return size.held(model, axis) - outside, outside


def _by_layer(work: Work) -> bool:
    return work.weight_parts > 1 and work.execution.weight_gather == "layer"


def _gathered(work: Work) -> float:
    """Weights as the products read them: whole, and in the compute type."""
    layers, outside = _parts(work)
    if work.weight_parts == 1 and work.width == FLOAT32:
        return 0.0
    if _by_layer(work):
        layers *= 2 / work.config.model.num_layers
    return work.width * (layers + outside)


def _gradients(work: Work) -> float:
    layers, outside = _parts(work)
    reduced = FLOAT32 * (layers + outside) / work.weight_parts
    sums = FLOAT32 if work.config.training.grad_accum_steps > 1 else 0
    if not _by_layer(work):
        return reduced + (work.width + sums) * (layers + outside)
    under_way = work.width * layers / work.config.model.num_layers
    layers /= work.weight_parts
    return reduced + FLOAT32 * layers + work.width * outside + sums * (layers + outside) + under_way


def _kept(work: Work) -> float:
    """What waits for the backward pass, over all layers."""
    model, execution = work.config.model, work.execution
    stream = work.width * model.hidden_dim
    attention = model.num_heads / work.mesh.model * (work.width * model.head_dim + FLOAT32)
    match execution.remat:
        case "none":
            layer = _whole_layer(work)
        case "dots":
            layer = products_bytes(work)
        case "attention":
            layer = stream + attention
        case "offload":
            layer = attention
        case "full":
            layer = stream
    # Eight-bit operands wait, too: of activations they stand for larger ones, of weights they come on top.
    rounded = _parts(work)[0] if execution.remat == "none" and work.precision.products != "compute" else 0
    return work.tokens * layer * model.num_layers + rounded


def _layer_under_way(work: Work) -> float:
    """The layer whose gradients are being made. Fusion leaves little but its products; keys may be other devices'."""
    model, parts = work.config.model, work.mesh.model
    others = work.mesh.sequence * 2 * model.kv_heads * model.head_dim / parts * work.width
    return work.tokens * (products_bytes(work) + _scores(work) + (others if work.mesh.sequence > 1 else 0))


def products_bytes(work: Work) -> float:
    """Bytes a token of one layer's input and of the results of its projections and of attention."""
    model, parts = work.config.model, work.mesh.model
    heads = 2 * (model.num_heads + model.kv_heads) * model.head_dim / parts
    up = (2 if model.gated else 1) * model.mlp_dim / parts
    return work.width * (3 * model.hidden_dim + heads + up)


def _scores(work: Work) -> float:
    """Bytes a token of dense attention's scores and of their softmax."""
    if work.execution.attention != "dense":
        return 0
    return 2 * FLOAT32 * work.config.model.num_heads / work.mesh.model * work.config.model.max_seq_len


def _whole_layer(work: Work) -> float:
    """Bytes a token of everything in one layer.

    Differentiation takes apart what the compiler would fuse: some four arrays a norm, and four an activation.
    """
    model, parts = work.config.model, work.mesh.model
    rotated = (model.num_heads + model.kv_heads) * model.head_dim / parts
    up = (2 if model.gated else 1) * model.mlp_dim / parts
    norms = (4 if model.post_norms else 2) * model.hidden_dim
    return products_bytes(work) + work.width * (4 * norms + 4 * up + rotated) + _scores(work)
