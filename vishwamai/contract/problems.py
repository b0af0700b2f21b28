"""What is wrong, said so that it can be mended: RFC 9457 problem documents and the items inside them."""

from typing import Any

from pydantic import ConfigDict, Field

from vishwamai.contract.base import Value

PROBLEM_MEDIA_TYPE = "application/problem+json"


class Problem(Value):
    """One thing wrong with one place of the input."""

    pointer: str = Field(description="JSON pointer (RFC 6901) to the place, '' for the whole document.")
    message: str = Field(description="What is wrong, in one sentence, naming the field and the value.")
    value: Any = Field(None, description="The value found there, shortened when long.")
    accepted: str | None = Field(None, description="What would be accepted.")
    hint: str | None = Field(None, description="What to do, e.g. 'did you mean hidden_dim?'.")


class ProblemDocument(Value):
    """RFC 9457 `application/problem+json`: the body of every error answer."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = Field("about:blank", description="Identifies the kind of problem, e.g. '/problems/invalid-config'.")
    title: str
    status: int
    detail: str | None = None
    instance: str | None = None
    errors: list[Problem] = []
    warnings: list["Notice"] = []


class Notice(Value):
    """A warning: the config is valid, yet its author should know this."""

    code: str = Field(description="Stable kebab-case word, e.g. 'short-warmup'.")
    pointer: str = Field(description="JSON pointer to the setting it is about, '' when about the whole.")
    message: str = Field(description="What is the matter and what it means, in one or two sentences.")
    fix: str | None = Field(None, description="What would make the warning go away.")
    blocks_launch: bool = Field(
        False, description="True: the config is valid, but no trainer of this release can run it."
    )


class InvalidConfig(ValueError):
    """The config cannot be accepted; `problems` holds every reason at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        lines = [f"{p.pointer or '/'}: {p.message}" + (f" ({p.hint})" if p.hint else "") for p in problems]
        super().__init__("\n".join(lines))
