"""The two kinds of value in the contract: what people write (strict) and what programs say to each other."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the training config: frozen, no unknown fields, no coercion, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class Value(BaseModel):
    """A message or record between our own programs: frozen, and unknown fields are ignored so that versions can mix."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
