"""What every setting means: for `vishwamai explain`, for documentation, and as JSON Schema."""

from typing import Any

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.legacy import BECAME, LEGACY, Fixed, NumberFormat, Renamed, Special, Unsupported, legacy_rule
from vishwamai.contract.nearness import nearest
from vishwamai.contract.resume import RULE_OF
from vishwamai.contract.schema import Schema, bounds, find, in_words, json_schema, members, settings, target

__all__ = ["FieldFacts", "UnknownName", "explain", "fields", "json_schema"]

_TYPES = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "array": "list of text",
    "object": "object",
}


class FieldFacts(Value):
    """One setting, or one section."""

    name: str = Field(description="Dotted name, e.g. 'training.batch_size'.")
    type: str = Field(
        description="'section', 'whole number', 'number', 'true or false', 'text', 'list of text', 'object'."
    )
    optional: bool = Field(description="Whether null is accepted: nothing is asked.")
    description: str
    default: Any = Field(None, description="The value when it is not given; null where resolution chooses.")
    accepted: str = Field(description="What it takes, in words: 'a whole number >= 1'.")
    range: str | None = Field(None, description="Bounds of a number: '>= 1 and <= 1024'.")
    choices: list[str] = Field([], description="The words it may be.")
    fields: list[str] = Field([], description="A section's settings, by dotted name.")
    resume: str | None = Field(
        None,
        description="What a change does to a run that goes on from a checkpoint (free, content, course: a warning, "
        "breaks: refused), and why; null for a section.",
    )


class UnknownName(LookupError):
    """No setting, or more than one, goes by this name; `suggestions` are dotted names that might be meant."""

    def __init__(self, name: str, message: str, suggestions: list[str]) -> None:
        self.name = name
        self.suggestions = suggestions
        hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
        super().__init__(message + hint)


def fields() -> list[FieldFacts]:
    """Every section and setting, each section before its settings."""
    return [_facts(name) for name in settings()]


def explain(name: str) -> FieldFacts:
    """The facts of a setting or section by dotted name, or by its last part where only one has it.

    Raises UnknownName with near misses, with all holders of an ambiguous name, or with the new name of an old one.
    """
    asked = name.strip().strip("/").replace("/", ".")
    if asked in settings():
        return _facts(asked)
    holders = [setting for setting in settings() if setting.endswith(f".{asked}")]
    if len(holders) == 1:
        return _facts(holders[0])
    if holders:
        raise UnknownName(name, f"{asked} is a setting of several sections", holders)
    known = "a name of the original VishwamAI code"
    match legacy_rule(asked) or next((rule for old, rule in LEGACY.items() if old.endswith(f".{asked}")), None):
        case Renamed(to) | NumberFormat(to):
            raise UnknownName(name, f"{asked} is {known}", [to])
        case Special(what):
            raise UnknownName(name, f"{asked} is {known}", [BECAME[what]])
        case Fixed(_, why) | Unsupported(why):
            raise UnknownName(name, f"{asked} is {known}, and no setting here: {why}", [])
    if not asked:
        raise UnknownName(name, "that is no name", [])
    raise UnknownName(name, f"there is no setting {asked[:80]}", _near(asked))


def _near(asked: str) -> list[str]:
    if "." in asked and (near := nearest(asked, settings())):
        return [near]
    last = nearest(asked.rpartition(".")[2], {setting.rpartition(".")[2] for setting in settings()})
    return [setting for setting in settings() if setting.rpartition(".")[2] == last]


def _facts(name: str) -> FieldFacts:
    schema = find(tuple(name.split(".")))
    assert schema is not None, "settings() lists what find() finds"
    inner = members(schema)
    options: list[Schema] = schema.get("anyOf", [schema])
    kinds = [option["type"] for option in options if option.get("type") not in (None, "null")]
    default = schema.get("default")
    rule = RULE_OF.get(name)
    return FieldFacts(
        name=name,
        type="section" if inner else " or ".join(_TYPES[kind] for kind in kinds),
        optional=any(option.get("type") == "null" for option in options),
        description=schema.get("description", target(schema).get("description", "")),
        default=None if inner else default,
        accepted=in_words(schema),
        range=next((found.strip() for option in options if (found := bounds(option))), None),
        choices=[word for option in options for word in (*option.get("enum", ()), *_constant(option))],
        fields=[f"{name}.{field}" for field in inner],
        resume=None if rule is None else f"{rule.effect}: {rule.why}",
    )


def _constant(schema: Schema) -> list[str]:
    return [schema["const"]] if "const" in schema else []
