"""The training config: eight sections of the published guide, and `data`, `checkpoint` and `run`."""

from pydantic import Field

from vishwamai.contract.base import Section
from vishwamai.contract.config.distillation import DistillationSection
from vishwamai.contract.config.io import (
    BUILTIN_CORPUS,
    MAIN_SET,
    CheckpointSection,
    DataSection,
    LoggingSection,
    MixtureSource,
    RunSection,
    SequenceSection,
)
from vishwamai.contract.config.model import ModelSection
from vishwamai.contract.config.performance import MemorySection, OptimizationSection
from vishwamai.contract.config.tpu import MeshSection, TpuSection
from vishwamai.contract.config.training import EarlyStoppingSection, OptimizerSection, TrainingSection


class TrainingConfig(Section):
    """One training run, as its author wrote it. Every section and field may be left out."""

    model: ModelSection = Field(ModelSection(), description="The decoder's shape.")
    training: TrainingSection = Field(TrainingSection(), description="Batch, schedule and optimizer.")
    tpu: TpuSection = Field(TpuSection(), description="The TPU slice asked for.")
    memory: MemorySection = Field(MemorySection(), description="What to trade for memory.")
    optimization: OptimizationSection = Field(OptimizationSection(), description="Precision and performance.")
    distillation: DistillationSection | None = Field(None, description="A teacher to learn from; absent: none.")
    sequence: SequenceSection = Field(SequenceSection(), description="Text generation and special tokens.")
    logging: LoggingSection = Field(LoggingSection(), description="How often things happen, in steps.")
    data: DataSection = Field(DataSection(), description="The corpus and its tokenizer.")
    checkpoint: CheckpointSection = Field(CheckpointSection(), description="Which checkpoints are kept.")
    run: RunSection = Field(RunSection(), description="The run's name and bookkeeping.")


__all__ = [
    "BUILTIN_CORPUS",
    "MAIN_SET",
    "CheckpointSection",
    "DataSection",
    "DistillationSection",
    "EarlyStoppingSection",
    "LoggingSection",
    "MemorySection",
    "MeshSection",
    "MixtureSource",
    "ModelSection",
    "OptimizationSection",
    "OptimizerSection",
    "RunSection",
    "SequenceSection",
    "TpuSection",
    "TrainingConfig",
    "TrainingSection",
]
