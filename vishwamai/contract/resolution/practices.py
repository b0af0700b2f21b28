"""The guide's best practices as warnings: each rule looks at the resolved job and says at most one thing."""

from collections.abc import Callable
from dataclasses import dataclass

from vishwamai.contract.config import BUILTIN_CORPUS, TrainingConfig
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolution.fit import LANES
from vishwamai.contract.resolution.memory import estimate
from vishwamai.contract.resolved import Execution, Hardware, Mesh, Precision

HIGH_LEARNING_RATE = 3e-3
SMALL_MODEL = 50_000_000
"""Parameters below which learning rates above HIGH_LEARNING_RATE are common."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the rules look at."""

    requested: TrainingConfig
    effective: TrainingConfig
    hardware: Hardware
    mesh: Mesh
    precision: Precision
    execution: Execution
    parameters: int

    @property
    def on_tpu(self) -> bool:
        """Whether real chips are bought; a rehearsal needs no advice on hardware."""
        return self.hardware.platform == "tpu"


Rule = Callable[[Subject], Notice | None]


def advice(subject: Subject) -> list[Notice]:
    """All warnings, the most important first."""
    return [notice for rule in RULES if (notice := rule(subject))]


def memory(job: Subject) -> Notice | None:
    """The state and activations should fit a device."""
    if not job.on_tpu:
        return None
    need = estimate(job.effective, job.hardware, job.mesh, job.execution, job.precision, job.parameters)
    if need.total <= need.available:
        return None
    fixes = []
    if job.execution.remat == "none":
        fixes.append("turn on memory.gradient_checkpointing")
    if need.state > need.available / 2 and not job.execution.weight_axes:
        fixes.append('split the weights: optimization.shard_weights, or tpu.device_strategy "fsdp"')
    elif need.state > need.available / 2:
        fixes.append('take a larger slice, or tpu.device_strategy "model_parallel"')
    if job.effective.training.batch_size > 1:
        fixes.append("lower training.batch_size and raise grad_accum_steps")
    return Notice(
        code="memory-may-not-fit",
        pointer="/memory/gradient_checkpointing" if job.execution.remat == "none" else "/training/batch_size",
        message=(
            f"By a rough estimate a device needs {need.total / 2**30:.1f} GiB ({need.state / 2**30:.1f} for weights, "
            "gradients and optimizer), "
            f"and a {job.hardware.accelerator} device has {need.available / 2**30:.1f} GiB to use."
        ),
        fix="; or ".join(fixes) or "take a larger slice",
    )


def warm_up(job: Subject) -> Notice | None:
    """A warm-up of at least 1% of the steps."""
    training = job.effective.training
    if training.warmup_steps * 100 >= training.max_steps:
        return None
    return Notice(
        code="short-warmup",
        pointer="/training/warmup_steps",
        message=(
            f"The warm-up of {training.warmup_steps} steps is less than 1% of the {training.max_steps} steps; "
            "early steps may diverge."
        ),
        fix=f"Set training.warmup_steps to {-(-training.max_steps // 100)} or more.",
    )


def learning_rate(job: Subject) -> Notice | None:
    """Start with small learning rates."""
    rate = job.effective.training.learning_rate
    limit = HIGH_LEARNING_RATE if job.parameters >= SMALL_MODEL else 10 * HIGH_LEARNING_RATE
    if rate <= limit:
        return None
    return Notice(
        code="high-learning-rate",
        pointer="/training/learning_rate",
        message=(
            f"A peak learning rate of {rate:g} is high for AdamW and {job.parameters:,} parameters; "
            "the loss may diverge."
        ),
        fix=f"Stay at or below {limit:g}.",
    )


def clipping(job: Subject) -> Notice | None:
    """Use gradient clipping."""
    if job.effective.training.max_grad_norm > 0:
        return None
    return Notice(
        code="no-gradient-clipping",
        pointer="/training/max_grad_norm",
        message="Gradients are not clipped; one bad batch can undo much training.",
        fix="Set training.max_grad_norm to 1.0.",
    )


def dynamic_scale(job: Subject) -> Notice | None:
    """FP8 goes with dynamic scaling."""
    asked = job.requested.optimization
    if not asked.use_fp8 or asked.use_dynamic_scale:
        return None
    return Notice(
        code="fp8-without-dynamic-scale",
        pointer="/optimization/use_dynamic_scale",
        message="FP8 without dynamic scaling loses small gradients wherever FP8 runs; this job computes without FP8.",
        fix="Set optimization.use_dynamic_scale to true, or use_fp8 to false.",
    )


def mixed_precision(job: Subject) -> Notice | None:
    """Enable mixed precision."""
    if not job.on_tpu or job.precision.compute == "bfloat16":
        return None
    return Notice(
        code="no-mixed-precision",
        pointer="/optimization/mixed_precision",
        message=(
            "Everything is computed in float32: on a TPU several times slower than bfloat16, and twice the activations."
        ),
        fix="Set optimization.mixed_precision and tpu.use_bfloat16 to true.",
    )


def block_size(job: Subject) -> Notice | None:
    """Use TPU-optimized block sizes."""
    size = job.effective.optimization.block_size
    if not job.on_tpu or job.execution.attention != "blockwise" or size % LANES == 0:
        return None
    return Notice(
        code="unaligned-block-size",
        pointer="/optimization/block_size",
        message=f"A block of {size} does not fill the TPU's {LANES} lanes; part of every operation is wasted.",
        fix=f"Use a multiple of {LANES}.",
    )


def vocabulary(job: Subject) -> Notice | None:
    """A vocabulary that fills whole tiles."""
    size = job.effective.model.vocab_size
    if not job.on_tpu or size % LANES == 0:
        return None
    return Notice(
        code="unaligned-vocabulary",
        pointer="/model/vocab_size",
        message=f"A vocabulary of {size} is no multiple of {LANES}: memory pads it, and a model axis cannot split it.",
        fix=f"Use {-(-size // LANES) * LANES}; the extra tokens are never seen.",
    )


def demo_corpus(job: Subject) -> Notice | None:
    """Real chips deserve real data."""
    if not job.on_tpu or BUILTIN_CORPUS not in job.effective.data.train:
        return None
    return Notice(
        code="demo-corpus",
        pointer="/data/train",
        message="The built-in demo corpus is some megabytes of Python; a TPU slice would see it many times over.",
        fix="Name your own text in data.train.",
    )


def evaluations(job: Subject) -> Notice | None:
    """Evaluate now and then."""
    every, steps = job.effective.logging.eval_every, job.effective.training.max_steps
    if 0 < every <= steps:
        return None
    what = (
        f"logging.eval_every {every} is longer than the run of {steps} steps: only its end is evaluated"
        if every
        else "Evaluation is switched off: overfitting would go unseen"
    )
    stop = ", and early stopping has nothing to go by" if job.effective.training.early_stopping else ""
    return Notice(
        code="no-evaluation",
        pointer="/logging/eval_every",
        message=f"{what}{stop}.",
        fix=f"Evaluate every {max(1, steps // 20)} steps or so.",
    )


def checkpoints(job: Subject) -> Notice | None:
    """Save often enough that a fault costs little."""
    every, steps = job.effective.logging.save_every, job.effective.training.max_steps
    if steps < 1000 or 0 < every <= steps // 4:
        return None
    lost = f"up to {min(every or steps, steps)} of {steps} steps"
    return Notice(
        code="rare-checkpoints",
        pointer="/logging/save_every",
        message=f"With logging.save_every {every}, a fault or a preemption loses {lost}.",
        fix=f"Save every {steps // 20} steps or so.",
    )


def old_generation(job: Subject) -> Notice | None:
    """TPU v3 is the oldest generation served."""
    if not job.on_tpu or job.hardware.accelerator != "v3":
        return None
    return Notice(
        code="old-accelerator",
        pointer="/tpu/accelerator",
        message="TPU v3 cannot join slices and has no kernel for fast attention; newer ones cost less per token.",
        fix="Consider v5e or v6e.",
    )


RULES: tuple[Rule, ...] = (
    memory,
    learning_rate,
    warm_up,
    clipping,
    dynamic_scale,
    mixed_precision,
    checkpoints,
    evaluations,
    demo_corpus,
    block_size,
    vocabulary,
    old_generation,
)
