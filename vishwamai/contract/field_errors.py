"""Single fields that cannot be accepted, said in words a config's author understands."""

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.legacy import is_legacy
from vishwamai.contract.nearness import nearest
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.schema import Schema, entries, in_words, members, root, settings, target
from vishwamai.contract.strict_json import kind_of, pointer_to

Place = tuple[str | int, ...]
CONVERT = "run `vishwamai convert old.json`"


def valid_part(document: dict[str, Any]) -> tuple[TrainingConfig, list[Problem], set[str]]:
    """The config without its invalid fields, what is wrong with those, and their dotted names."""
    part = _copied(document)
    problems: dict[Place, Problem] = {}
    invalid: set[str] = set()
    while True:
        try:
            return TrainingConfig.model_validate(part), list(problems.values()), invalid
        except ValidationError as error:
            found = [(_place(detail["loc"], part), detail) for detail in error.errors(include_url=False)]
        if not all(place for place, _ in found):
            raise InvalidConfig([Problem(pointer="", message="The config has a name that is not a string.")])
        for place, detail in _deepest(found):
            problems.setdefault(place, _problem(place, detail, document))
        for place, _ in found:
            invalid.add(_remove(part, place))


def shortened(value: object, limit: int = 80) -> Any:
    """A value fit for a message and for JSON: long text is cut, NaN and infinity become words."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) > limit:
        return text[: limit - 3] + "..."
    return value if not isinstance(value, float) or value - value == 0 else text


def in_quotes(value: object) -> str:
    """A value as the config's author wrote it, shortened."""
    short = shortened(value)
    return short if isinstance(short, str) and not isinstance(value, str) else json.dumps(short, ensure_ascii=False)


def dotted(place: Sequence[str | int]) -> str:
    """A place as people name it: data.train[0]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _copied(value: Any) -> Any:
    return {name: _copied(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _place(location: tuple[str | int, ...], document: Any) -> Place:
    """The part of pydantic's location that is a place in the document; the rest names a choice inside the schema."""
    place: list[str | int] = []
    for part in location:
        named = isinstance(document, dict) and isinstance(part, str) and part in document
        numbered = isinstance(document, list) and isinstance(part, int) and part < len(document)
        if named or numbered:
            document = document[part]
            place.append(part)
    return tuple(place)


def _deepest(found: list[tuple[Place, ErrorDetails]]) -> list[tuple[Place, ErrorDetails]]:
    """Without what only says that a place is not of another kind, where one of its parts is at fault."""

    def explained(place: Place, detail: ErrorDetails) -> bool:
        """Whether another error says more: one inside the place, or one that names what the place lacks."""
        return any(
            (len(other) > len(place) or (more["type"] == "missing" != detail["type"])) and other[: len(place)] == place
            for other, more in found
        )

    return [(place, detail) for place, detail in found if not explained(place, detail)]


def _schema_at(place: Place) -> Schema | None:
    """The schema of a place, through lists; None inside a free-form object."""
    schema: Schema | None = root()
    for part in place:
        if schema is None:
            break
        if isinstance(part, str):
            schema = members(schema).get(part) or entries(schema)
        else:
            options = [target(schema), *schema.get("anyOf", ())]
            schema = next(option for option in options if "items" in option)["items"]
    return schema


def _remove(part: dict[str, Any], place: Place) -> str:
    """Takes a place out of nested objects (a list goes as a whole) and returns its dotted name."""
    names: list[str] = []
    container: Any = part
    for name in place:
        if not isinstance(container, dict) or name not in container:
            break
        names.append(str(name))
        if len(names) == len(place) or not isinstance(container[name], dict):
            del container[name]
            break
        container = container[name]
    return ".".join(names)


def _at(place: Place, document: object) -> object:
    for part in place:
        document = document[part]  # type: ignore[index]
    return document


def _problem(place: Place, detail: ErrorDetails, document: dict[str, Any]) -> Problem:
    names = tuple(str(part) for part in place if isinstance(part, str))
    if detail["type"] == "extra_forbidden":
        return _unknown_name(place, names, detail["input"])
    value = _at(place, document)
    if detail["type"] == "missing":
        lacking = detail["loc"][-1]
        return Problem(pointer=pointer_to(*place), message=f"{dotted(place)} lacks {lacking}", value=shortened(value))
    schema = _schema_at(place)
    if schema is None or detail["loc"][-1] == "[key]":  # what the author has named
        return _bad_entry(place, value, schema)
    accepted = in_words(schema)
    other_kind = value is not None and kind_of(value) not in _kinds(schema)
    shown = f"{in_quotes(value)}, {kind_of(value)}" if other_kind else in_quotes(value)
    if detail["type"] == "too_short" and isinstance(value, list):
        shown = "an empty list"
    return Problem(
        pointer=pointer_to(*place),
        message=f"{dotted(place)} is {shown}; it takes {accepted}",
        value=shortened(value),
        accepted=accepted,
        hint=_hint(value, schema),
    )


def _kinds(schema: Schema) -> set[str]:
    """The kinds of value a schema allows, as `kind_of` names them."""
    names = {
        "integer": ("a whole number",),
        "number": ("a whole number", "a number"),
        "boolean": ("a truth value",),
        "string": ("a string",),
        "array": ("a list",),
        "null": ("null",),
    }
    options = schema.get("anyOf", [schema])
    return {kind for option in options for kind in names.get(option.get("type", ""), ("an object",))}


def _hint(value: object, schema: Schema) -> str | None:
    """What its author probably meant."""
    if value is None:
        default = schema.get("default")
        return "leave it out" + (
            f" to take the default, {json.dumps(default)}" if isinstance(default, str | int | float) else ""
        )
    kinds = {option.get("type") for option in schema.get("anyOf", [schema])}
    words = [word for option in schema.get("anyOf", [schema]) for word in option.get("enum", ())]
    if isinstance(value, float) and "integer" in kinds and value.is_integer():
        return f"write {int(value)}"
    if isinstance(value, bool) and kinds & {"integer", "number"}:
        return "write a number, not a truth value"
    if isinstance(value, int) and "boolean" in kinds and value in (0, 1):
        return f"write {json.dumps(bool(value))}"
    if isinstance(value, int | float) and "string" in kinds:
        return _quoted(value)
    if not isinstance(value, str):
        return None
    if "pattern" in schema and re.fullmatch(schema["pattern"], spelt := re.sub("[*×X]", "x", value.strip())):
        return f"write {json.dumps(spelt)}"
    if words:
        return f"did you mean {near}?" if (near := nearest(value, words)) else None
    if "array" in kinds and value.lstrip().startswith("["):
        return 'write a JSON list, its texts in double quotes: ["a", "b"]'
    if "array" in kinds:
        return f"put it in a list: [{in_quotes(value)}]"
    if "boolean" in kinds and value.casefold() in ("true", "false"):
        return f"write {value.casefold()} without quotes"
    return f"write {value.strip()} without quotes" if kinds & {"integer", "number"} and _is_number(value) else None


def _quoted(value: object) -> str:
    return f'put it in double quotes: "{json.dumps(shortened(value))}"'


def _is_number(text: str) -> bool:
    try:
        return isinstance(json.loads(text), int | float)
    except ValueError:
        return False


def _bad_entry(place: Place, value: object, schema: Schema | None) -> Problem:
    accepted = "names of letters, digits and . _ / - (at most 63), and text of at most 256 characters"
    if schema is not None:
        accepted = f"names of letters, digits and . _ - (at most 64), and {in_words(schema)} for each"
    owner, entry = dotted(place[:-1]), in_quotes(place[-1])
    return Problem(
        pointer=pointer_to(*place),
        message=f"{owner} has the entry {entry}: {in_quotes(value)}; it takes {accepted}",
        value=shortened(value),
        accepted=accepted,
        hint=_quoted(value) if isinstance(value, int | float) else None,
    )


def _unknown_name(place: Place, names: tuple[str, ...], value: object) -> Problem:
    name, section = names[-1], ".".join(names[:-1])
    fields = list(members(_schema_at(place[:-1]) or root()))
    holder = dotted(place[:-1]) or "the config"
    return Problem(
        pointer=pointer_to(*place),
        message=f"{dotted([part if isinstance(part, int) else shortened(part) for part in place])} is no setting; "
        f"{holder} has no field of that name",
        value=shortened(value),
        accepted=f"one of {', '.join(fields)}" if fields else None,
        hint=_meant(section, name, fields),
    )


def _meant(section: str, name: str, fields: list[str]) -> str | None:
    """Which setting an unknown name may stand for: near in its section, right elsewhere, or of the original code."""
    full = f"{section}.{name}".removeprefix(".")
    elsewhere = [setting for setting in settings() if setting.rpartition(".")[2] == name]
    legacy = f"it is a name of the original VishwamAI code: {CONVERT}" if is_legacy(full) else None
    if elsewhere:
        sections = " or ".join(_section(setting) for setting in elsewhere)
        moved = f"{name} belongs to {sections}: write {' or '.join(elsewhere)}"
        return f"{moved}; {legacy}" if legacy else moved
    if legacy:
        return legacy
    if near := nearest(name, fields):
        return f"did you mean {near}?"
    if near := nearest(name, {setting.rpartition(".")[2] for setting in settings()}):
        return f"did you mean {' or '.join(s for s in settings() if s.rpartition('.')[2] == near)}?"
    return None


def _section(setting: str) -> str:
    return setting.rpartition(".")[0] or "the top level"
