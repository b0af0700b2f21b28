"""A teacher to learn from."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Section


class DistillationSection(Section):
    """Knowledge distillation; the section's presence turns it on."""

    teacher_model: str = Field(
        "gemma-7b", min_length=1, max_length=1024, description="Teacher model identifier or path."
    )
    temperature: float = Field(2.0, gt=0.0, le=1000.0, description="Softmax temperature of the soft targets.")
    alpha: float = Field(0.5, ge=0.0, le=1.0, description="Weight of the distillation loss; the rest is cross-entropy.")
    use_intermediate_distillation: bool = Field(True, description="Also match the teacher's hidden states.")
    intermediate_layer_mapping: Literal["uniform", "last"] = Field(
        "uniform", description="Which teacher layer each student layer follows."
    )
