"""A checkpoint as a Hugging Face folder: what is asked for and what comes back."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vishwamai.contract.base import Section, Value

ExportType = Literal["float32", "bfloat16"]
"""Number format of exported weights."""
ExportedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$")]


class ExportRequest(Section):
    """How to write it."""

    dtype: ExportType = Field("float32", description="Number format of the weights.")


class ExportedFile(Value):
    """One file of an export."""

    name: ExportedName
    size_bytes: int


class ExportAnswer(Value):
    """Where the export is: the same step and format again give the same folder."""

    step: int
    dtype: ExportType
    folder: str = Field(description="On the machine of the control plane.")
    files: list[ExportedFile] = Field(
        description="Weights, config.json and tokenizer; each can be fetched by its name."
    )
