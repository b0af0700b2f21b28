"""The config's JSON Schema (2020-12), and its entries in words."""

import copy
from functools import cache
from typing import Any

from vishwamai.contract.config import TrainingConfig

SCHEMA_ID = "urn:vishwamai:schema:training-config:1"
Schema = dict[str, Any]


def json_schema() -> Schema:
    """JSON Schema of the training config, for editors and for GET /config-schema."""
    return copy.deepcopy(_schema())


@cache
def _schema() -> Schema:
    schema = TrainingConfig.model_json_schema()
    schema.pop("title")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "VishwamAI training config",
    }
    return head | schema


def root() -> Schema:
    """The schema of the whole document; treat as read-only."""
    return _schema()


def target(schema: Schema) -> Schema:
    """The schema itself, past a reference or a choice between an object and null."""
    for option in schema.get("anyOf", ()):
        if "$ref" in option:
            return target(option)
    if "$ref" in schema:
        definition: Schema = _schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        return definition
    return schema


def members(schema: Schema) -> dict[str, Schema]:
    """The fields of a section, by name; {} when it is none."""
    found: dict[str, Schema] = target(schema).get("properties", {})
    return found


def entries(schema: Schema) -> Schema | None:
    """The schema of what an object's entries hold, under names of the author's own; None when they are text."""
    for option in (schema, *schema.get("anyOf", ())):
        found: Schema
        for found in option.get("patternProperties", {}).values():
            if found["type"] == "array":
                return found
    return None


def find(path: tuple[str, ...]) -> Schema | None:
    """The schema of a setting or section by its path; None when there is none of that name."""
    schema = root()
    for name in path:
        inner = members(schema).get(name)
        if inner is None:
            return None
        schema = inner
    return schema


@cache
def settings() -> tuple[str, ...]:
    """Dotted names of every section and field, in the order of the schema."""

    def walk(schema: Schema, prefix: str) -> list[str]:
        names = []
        for name, inner in members(schema).items():
            names += [prefix + name, *walk(inner, f"{prefix}{name}.")]
        return names

    return tuple(walk(root(), ""))


def in_words(schema: Schema) -> str:
    """What a place accepts: 'a whole number >= 1', 'true or false', 'one of linear, cosine, wsd, constant'."""
    if "anyOf" in schema:
        shared = {"examples": schema["examples"]} if "examples" in schema else {}
        return ", or ".join(in_words(shared | option) for option in schema["anyOf"])
    if "$ref" in schema:
        return "an object with its own settings"
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    match schema.get("type"):
        case "integer":
            return ("an even whole number" if schema.get("multipleOf") == 2 else "a whole number") + bounds(schema)
        case "number":
            return "a number" + bounds(schema)
        case "boolean":
            return "true or false"
        case "null":
            return "null"
        case "string":
            return _text(schema)
        case "array":
            return f"a list of {in_words(schema['items'])}"
        case _:
            inner = entries(schema)
            return f"an object whose values are each {in_words(inner)}" if inner else "an object whose values are text"


def bounds(schema: Schema) -> str:
    """The range of a number, with a leading space: ' >= 1 and <= 1024'; '' when there is none."""
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    parts = [f"{sign} {_plain(schema[key])}" for key, sign in signs.items() if key in schema]
    return f" {' and '.join(parts)}" if parts else ""


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _text(schema: Schema) -> str:
    if "examples" in schema:
        *others, last = schema["examples"]
        return f"text such as {', '.join(others)} or {last}"
    least, most = schema.get("minLength"), schema.get("maxLength")
    if least and most:
        return f"text of {least} to {most} characters"
    return f"text of at most {most} characters" if most else "text"
