"""How the weights move: batch, schedule, optimizer, and when to stop early."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Section

LearningRateSchedule = Literal["linear", "cosine", "wsd", "constant"]


class OptimizerSection(Section):
    """AdamW's own constants."""

    name: Literal["adamw"] = Field("adamw", description="The optimizer.")
    beta1: float = Field(0.9, ge=0.0, lt=1.0, description="Decay of the first moment.")
    beta2: float = Field(0.95, ge=0.0, lt=1.0, description="Decay of the second moment.")
    epsilon: float = Field(1e-8, gt=0.0, lt=1.0, description="Added to the root of the second moment.")
    state_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Number format of the moments; bfloat16 halves their memory."
    )


class EarlyStoppingSection(Section):
    """End the run when the evaluation loss no longer improves."""

    patience: int = Field(5, ge=1, le=1_000_000, description="Evaluations without improvement before the run ends.")
    min_delta: float = Field(0.0, ge=0.0, description="Nats by which the loss must fall to count as improvement.")
    eval_set: str | None = Field(
        None, min_length=1, max_length=64, description="Which set of data.eval is watched. Absent: the first."
    )


class TrainingSection(Section):
    """Batch, schedule and optimizer."""

    batch_size: int = Field(8, ge=1, le=65_536, description="Sequences per device in one forward pass.")
    grad_accum_steps: int = Field(4, ge=1, le=65_536, description="Forward passes whose gradients make one step.")
    learning_rate: float = Field(1e-4, gt=0.0, le=10.0, description="Peak learning rate.")
    warmup_steps: int = Field(2000, ge=0, le=1_000_000_000, description="Steps of linear rise to the peak.")
    max_steps: int = Field(500_000, ge=1, le=1_000_000_000, description="Optimizer steps in the whole run.")
    weight_decay: float = Field(0.01, ge=0.0, le=10.0, description="AdamW's decay, on weight matrices only.")
    max_grad_norm: float = Field(
        1.0, ge=0.0, description="Gradients are scaled down to this global norm; 0 leaves them alone."
    )
    z_loss: float = Field(
        0.0, ge=0.0, le=1.0, description="Weight of the squared log of the softmax's sum, which keeps logits small."
    )
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="Share of the target's probability spread over the whole vocabulary."
    )
    max_bad_steps: int = Field(
        1,
        ge=1,
        le=1_000_000,
        description="Steps in a row whose loss or gradients are no numbers before the run ends; each is skipped.",
    )
    on_bad_loss: Literal["stop", "rewind"] = Field(
        "stop",
        description="After max_bad_steps, or a spike: end the run, or go back to the newest checkpoint and leave out "
        "the batches of the bad steps.",
    )
    spike_threshold: float | None = Field(
        None, gt=1.0, le=1e6, description="A loss above so many times the median of the last 64 is bad; null: none is."
    )
    find_bad_layer: bool = Field(
        False, description="When a run ends on such steps, name the first layer whose output is no number."
    )
    lr_schedule: LearningRateSchedule = Field(
        "cosine", description="After warm-up: linear or cosine decay, wsd (stable, then decay), or constant."
    )
    min_learning_rate_ratio: float = Field(0.1, ge=0.0, le=1.0, description="Final learning rate over the peak.")
    decay_fraction: float = Field(0.2, gt=0.0, le=1.0, description="Share of max_steps that wsd spends decaying.")
    optimizer: OptimizerSection = Field(OptimizerSection(), description="AdamW's own constants.")
    early_stopping: EarlyStoppingSection | None = Field(
        None, description="Present: end when evaluation stops improving."
    )
