"""The guide's best practices as warnings: each rule looks at the resolved job and says at most one thing."""

from collections.abc import Callable

from vishwamai.contract.config import BUILTIN_CORPUS
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolution.cache import writes_cache
from vishwamai.contract.resolution.fit import LANES
from vishwamai.contract.resolution.lowering import in_bytes, lowering, need_in_words
from vishwamai.contract.resolution.memory import Work, estimate
from vishwamai.contract.resolution.size import vocabulary_parts
from vishwamai.contract.resolved import ResolvedJob

HIGH_LEARNING_RATE = 3e-3
SMALL_MODEL = 50_000_000
"""Parameters below which learning rates above HIGH_LEARNING_RATE are common."""
BFLOAT16_STEP = 2.0**-8
"""Largest relative distance between neighbouring bfloat16 numbers."""

Rule = Callable[[ResolvedJob], Notice | None]


def on_tpu(job: ResolvedJob) -> bool:
    """Whether real chips are bought; a rehearsal needs no advice on hardware."""
    return job.hardware.platform == "tpu"


def advice(job: ResolvedJob) -> list[Notice]:
    """All warnings, the most important first."""
    return [notice for rule in RULES if (notice := rule(job))]


def memory(job: ResolvedJob) -> Notice | None:
    """The state and activations should fit a device."""
    need = estimate(Work.of(job))
    if not on_tpu(job) or need.fits or writes_cache(job.effective):
        return None
    fixes = lowering(job)[:4]
    return Notice(
        code="memory-may-not-fit",
        pointer="/memory/gradient_checkpointing" if job.execution.remat == "none" else "/training/batch_size",
        message=(
            f"By a rough estimate a device needs {need_in_words(need)}, "
            f"and a {job.hardware.accelerator} device has {in_bytes(need.available)} to use."
        ),
        fix=f"Each by the estimate: {'; '.join(fixes)}.",
    )


def warm_up(job: ResolvedJob) -> Notice | None:
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


def learning_rate(job: ResolvedJob) -> Notice | None:
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


def clipping(job: ResolvedJob) -> Notice | None:
    """Use gradient clipping."""
    if job.effective.training.max_grad_norm > 0:
        return None
    return Notice(
        code="no-gradient-clipping",
        pointer="/training/max_grad_norm",
        message="Gradients are not clipped; one bad batch can undo much training.",
        fix="Set training.max_grad_norm to 1.0.",
    )


def dynamic_scale(job: ResolvedJob) -> Notice | None:
    """FP8 goes with dynamic scaling."""
    if job.precision.products != "fp8" or job.precision.loss_scale == "dynamic":
        return None
    return Notice(
        code="fp8-without-dynamic-scale",
        pointer="/optimization/use_dynamic_scale",
        message="Gradients of FP8 products are rounded to e5m2; without dynamic scaling small ones may vanish before.",
        fix="Set optimization.use_dynamic_scale to true, or low_precision to none.",
    )


def mixed_precision(job: ResolvedJob) -> Notice | None:
    """Enable mixed precision."""
    if not on_tpu(job) or job.precision.compute == "bfloat16":
        return None
    return Notice(
        code="no-mixed-precision",
        pointer="/optimization/mixed_precision",
        message=(
            "Everything is computed in float32: on a TPU several times slower than bfloat16, and twice the activations."
        ),
        fix="Set optimization.mixed_precision and tpu.use_bfloat16 to true.",
    )


def block_size(job: ResolvedJob) -> Notice | None:
    """Use TPU-optimized block sizes."""
    size = job.effective.optimization.block_size
    if not on_tpu(job) or job.execution.attention != "blockwise" or size % LANES == 0:
        return None
    return Notice(
        code="unaligned-block-size",
        pointer="/optimization/block_size",
        message=f"A block of {size} does not fill the TPU's {LANES} lanes; part of every operation is wasted.",
        fix=f"Use a multiple of {LANES}.",
    )


def vocabulary(job: ResolvedJob) -> Notice | None:
    """A vocabulary that fills whole tiles."""
    size = job.effective.model.vocab_size
    if not on_tpu(job) or size % LANES == 0:
        return None
    return Notice(
        code="unaligned-vocabulary",
        pointer="/model/vocab_size",
        message=f"A vocabulary of {size} is no multiple of {LANES}, and memory pads it.",
        fix=f"Use {-(-size // LANES) * LANES}; the extra tokens are never seen.",
    )


def whole_vocabulary(job: ResolvedJob) -> Notice | None:
    """A model axis that divides the vocabulary splits the largest tables."""
    size, axis = job.effective.model.vocab_size, job.mesh.model
    if not on_tpu(job) or vocabulary_parts(job.effective.model, axis) == axis:
        return None
    return Notice(
        code="vocabulary-not-split",
        pointer="/model/vocab_size",
        message=f"Axis model of {axis} does not divide a vocabulary of {size}: each device has all of it to compute.",
        fix=f"Use {-(-size // axis) * axis}; the extra tokens are never seen.",
    )


def attention_kernel(job: ResolvedJob) -> Notice | None:
    """TPUs from v4 on have kernels for attention."""
    kind, asked = job.execution.attention, job.effective.optimization.attention
    efficient = job.effective.memory.attention_memory_efficient
    if not on_tpu(job) or job.hardware.accelerator == "v3" or kind in ("flash", "splash"):
        return None
    if asked != "auto" or not efficient:
        return None
    (why,) = (decision.why for decision in job.decisions if decision.setting == "execution.attention")
    return Notice(
        code="no-attention-kernel",
        pointer="/model/head_dim",
        message=f"No TPU kernel covers this attention, and plain XLA computes it more slowly ({why}).",
        fix="Use a head_dim of 16, 32, 64, 128 or 256, a max_seq_len that is a multiple of 128, no attention dropout, "
        "and no sequence axis.",
    )


def low_precision_moments(job: ResolvedJob) -> Notice | None:
    """A bfloat16 moment that decays by less than half the distance to its neighbour does not decay."""
    optimizer = job.effective.training.optimizer
    decay = 1 - max(optimizer.beta1, optimizer.beta2)
    if optimizer.state_dtype == "float32" or decay >= BFLOAT16_STEP / 2:
        return None
    name = "beta1" if optimizer.beta1 > optimizer.beta2 else "beta2"
    return Notice(
        code="moments-stand-still",
        pointer="/training/optimizer/state_dtype",
        message=(
            f"A bfloat16 moment cannot follow {name} {getattr(optimizer, name):g}: a decay of {decay:.2g} a step is "
            "rounded away, so a moment that was once large stays large."
        ),
        fix=f'Set training.optimizer.state_dtype to "float32", or {name} to 0.99 or less.',
    )


def tokens_of_another(job: ResolvedJob) -> Notice | None:
    """A checkpoint's embeddings go with its own tokenizer."""
    if job.effective.checkpoint.init_from is None or job.effective.data.tokenizer != "byte":
        return None
    return Notice(
        code="tokens-of-another-model",
        pointer="/data/tokenizer",
        message="The byte tokenizer's ids mean nothing to an imported checkpoint, whose embeddings belong to its own.",
        fix="Set data.tokenizer to the checkpoint's tokenizer.json, and the special tokens to its own.",
    )


def demo_corpus(job: ResolvedJob) -> Notice | None:
    """Real chips deserve real data."""
    if not on_tpu(job) or not any(BUILTIN_CORPUS in one.files for one in job.effective.data.sources()):
        return None
    return Notice(
        code="demo-corpus",
        pointer="/data/train",
        message="The built-in demo corpus is some megabytes of Python; a TPU slice would see it many times over.",
        fix="Name your own text in data.train.",
    )


def evaluations(job: ResolvedJob) -> Notice | None:
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


def checkpoints(job: ResolvedJob) -> Notice | None:
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


def best_checkpoints(job: ResolvedJob) -> Notice | None:
    """A checkpoint has a rank when its own step is evaluated."""
    every, saves = job.effective.logging.eval_every, job.effective.logging.save_every
    if job.effective.checkpoint.keep_best is None or (every and saves and saves % every == 0):
        return None
    return Notice(
        code="best-checkpoints-unknown",
        pointer="/checkpoint/keep_best",
        message=(
            "checkpoint.keep_best goes by the evaluation of a checkpoint's own step, and not every one has it: "
            f"logging.save_every is {saves}, logging.eval_every {every}."
        ),
        fix="Make logging.save_every a multiple of logging.eval_every, both above 0.",
    )


def old_generation(job: ResolvedJob) -> Notice | None:
    """TPU v3 is the oldest generation served."""
    if not on_tpu(job) or job.hardware.accelerator != "v3":
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
    low_precision_moments,
    tokens_of_another,
    mixed_precision,
    checkpoints,
    evaluations,
    best_checkpoints,
    demo_corpus,
    block_size,
    vocabulary,
    whole_vocabulary,
    attention_kernel,
    old_generation,
)
