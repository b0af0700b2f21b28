"""A teacher to learn from."""

from typing import Annotated, Literal

from pydantic import Field

from vishwamai.contract.base import Section

LayerNumber = Annotated[int, Field(ge=1, le=1024)]
LayerPair = Annotated[list[LayerNumber], Field(min_length=2, max_length=2)]

TeacherType = Literal["float32", "bfloat16", "int8", "float8_e4m3fn"]


class DistillationSection(Section):
    """Knowledge distillation; the section's presence turns it on."""

    teacher_model: str = Field(
        "gemma-7b",
        min_length=1,
        max_length=1024,
        description="Folder of a Hugging Face checkpoint or of a run, a job's id, or a name that the site knows.",
    )
    teacher_dtype: TeacherType | None = Field(
        None,
        description="Number format of the teacher's weights; the eight-bit ones hold the projections of its layers, "
        "a scale for each output channel, and are numbers of the step again where used. Absent: what the step "
        "computes in.",
    )
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = Field(
        "forward_kl",
        description="How far the student's distribution is from the teacher's: KL(teacher || student), the reverse, or "
        "the generalized Jensen-Shannon divergence.",
    )
    jsd_beta: float = Field(
        0.5, gt=0.0, lt=1.0, description="The teacher's weight in the mixture that jsd compares both with."
    )
    temperature: float = Field(2.0, gt=0.0, le=1000.0, description="Softmax temperature of the soft targets.")
    final_temperature: float | None = Field(
        None, gt=0.0, le=1000.0, description="Temperature of the last step, approached linearly. Absent: it stays."
    )
    alpha: float = Field(0.5, ge=0.0, le=1.0, description="Weight of the distillation loss; the rest is cross-entropy.")
    use_intermediate_distillation: bool = Field(True, description="Also match the teacher's hidden states.")
    intermediate_layer_mapping: Literal["uniform", "last"] | Annotated[list[LayerPair], Field(min_length=1)] = Field(
        "uniform",
        description="Which teacher layer each student layer follows: spread evenly, the last one alone, or pairs of "
        "numbers from 1, [student, teacher].",
    )
    hidden_loss: Literal["mse", "cosine"] = Field(
        "mse",
        description="Distance of hidden states: squared error over the teacher's square, or 1 less the cosine.",
    )
    hidden_weight: float = Field(
        0.1, ge=0.0, le=1000.0, description="Weight of the hidden states' distance, beside alpha and its rest."
    )
