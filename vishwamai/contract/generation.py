"""Text from a trained model: what is asked for and what comes back, on the command line and over HTTP."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vishwamai.contract.base import Section, Value

CacheFormat = Literal["fp8", "bf16", "float32"]
"""How generation keeps keys and values: e4m3 with a power of two per head, bfloat16, or as they are computed."""


class Sampling(Section):
    """How to draw tokens; the filters apply in the order of the fields, and those left out filter nothing."""

    max_new_tokens: int = Field(200, ge=1, le=1_048_576, description="Tokens to add to each prompt, at most.")
    repetition_penalty: float = Field(
        1.0, gt=0.0, le=100.0, description="Logits of tokens seen before are divided by it, or multiplied below 0."
    )
    min_length: int | None = Field(
        None, ge=0, le=1_048_576, description="New tokens before the end may come. Absent: sequence.min_length."
    )
    temperature: float = Field(0.8, ge=0.0, le=100.0, description="Divides the logits; 0 takes the likeliest token.")
    top_k: int | None = Field(None, ge=1, le=4_194_304, description="Draw among the k likeliest tokens.")
    top_p: float | None = Field(
        None, gt=0.0, le=1.0, description="Draw among the likeliest tokens that together reach this probability."
    )
    min_p: float | None = Field(
        None, ge=0.0, le=1.0, description="Leave out tokens less probable than this share of the likeliest one."
    )
    stop: list[Annotated[str, StringConstraints(min_length=1, max_length=1000)]] = Field(
        [], max_length=16, description="Strings before which a text ends."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="The same seed draws the same text, prompt by prompt.")


class GenerateRequest(Sampling):
    """What to go on from."""

    prompts: list[Annotated[str, StringConstraints(max_length=262_144)]] = Field(
        min_length=1, max_length=64, description="Texts to go on from; an empty one begins a document."
    )
    step: int | None = Field(None, ge=0, description="Committed checkpoint to use. Absent: the newest.")
    kv_cache: CacheFormat | None = Field(
        None, description="Format of keys and values. Absent: fp8 with memory.kv_cache_fp8, else as computed."
    )


class GeneratedText(Value):
    """What one prompt became."""

    prompt: str
    text: str = Field(description="The new text alone.")
    prompt_tokens: int
    new_tokens: int = Field(description="Tokens of the new text; a closing end-of-document token is not counted.")
    ended: Literal["eos", "stop", "length"] = Field(description="An end of document, a stop string, or no room left.")


class GenerateAnswer(Value):
    """Texts in the order of their prompts."""

    texts: list[GeneratedText]
    step: int | None = Field(None, description="Step of the checkpoint used; null for an imported one.")
    kv_cache: CacheFormat
