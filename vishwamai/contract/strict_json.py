"""Strict JSON: what RFC 8259 allows and nothing that two readers could understand differently.

The C parser of the standard library does the work. It lets NaN, duplicate names, overflowing numbers and unpaired
surrogates through, and cannot say where it met them; so when it or a hook objects, a second, slow pass finds them all.
"""

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from vishwamai.contract.problems import InvalidConfig, Problem

MAX_DEPTH = 64
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*")
      | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<comma>,) | (?P<colon>:)
      | (?P<word>[^\s\[\]{},:"]+)""",
    re.VERBOSE | re.DOTALL,
)
_SYNTAX_HINTS = {
    "Expecting property name enclosed in double quotes": 'names stand in double quotes, and no comma stands before "}"',
    "Illegal trailing comma before end of object": 'remove the comma before "}"',
    "Illegal trailing comma before end of array": 'remove the comma before "]"',
    "Expecting ',' delimiter": "a comma is missing, or a bracket",
    "Expecting ':' delimiter": "a colon follows each name",
    "Expecting value": "a value is missing here; JSON's words are true, false and null, and it has no comments",
    "Unterminated string starting at": "the closing double quote is missing",
    "Invalid control character at": r"write a line break inside a string as \n",
    "Extra data": "one JSON object, and nothing after it",
}


class _Objection(ValueError):
    """The fast parser met something that only the slow pass can place."""


def parse_json(text: str | bytes) -> dict[str, Any]:
    """The JSON object in a text; raises InvalidConfig with line and column of what is wrong."""
    source = _decoded(text)
    if not source.strip():
        raise InvalidConfig([Problem(pointer="", message="The text is empty; it takes a JSON object, at least {}.")])
    try:
        document = parse_value(source)
    except json.JSONDecodeError as error:
        raise InvalidConfig([_syntax_problem(source, error)]) from None
    if not isinstance(document, dict):
        message = f"The document is {kind_of(document)}; it takes an object such as {{}}."
        raise InvalidConfig([Problem(pointer="", message=message, accepted="an object")])
    return document


def parse_value(source: str) -> Any:
    """Any JSON value. Raises json.JSONDecodeError for what is no JSON, InvalidConfig for what may be misunderstood."""
    try:
        value = json.loads(
            source,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_without_duplicates,
        )
        if "\\u" in source:
            json.dumps(value, ensure_ascii=False).encode()
    except (_Objection, RecursionError, UnicodeEncodeError):
        raise InvalidConfig(_objections(source)) from None
    if _too_deep(value):
        raise InvalidConfig(_objections(source))
    return value


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a number" if math.isfinite(value) else "not a number that JSON has"
    if isinstance(value, str):
        return "a string"
    return "a list" if isinstance(value, list | tuple) else "an object"


def pointer_to(*path: str | int) -> str:
    """The JSON pointer (RFC 6901) to a place."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8", "replace")
        byte = f"0x{text[error.start]:02x}"
        problem = Problem(
            pointer="", message=f"{_at(before, len(before))}: byte {byte} is not UTF-8.", accepted="UTF-8 text"
        )
        raise InvalidConfig([problem]) from None


def _refuse(constant: str) -> Any:
    raise _Objection(constant)


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise _Objection(text)
    return value


def _integer(text: str) -> int:
    if len(text) > 400:
        raise _Objection(text)
    return int(text)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) < len(pairs):
        raise _Objection("duplicate")
    return members


def _too_deep(document: object) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def _at(source: str, offset: int) -> str:
    line = source.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - source.rfind('\n', 0, offset)}"


def _syntax_problem(source: str, error: json.JSONDecodeError) -> Problem:
    what = (
        "text follows the end of the document"
        if error.msg == "Extra data"
        else f"this is not JSON: {error.msg.lower().removesuffix(' at')}"
    )
    near = source[error.pos : error.pos + 20].split("\n")[0]
    return Problem(
        pointer="",
        message=f"{_at(source, error.pos)}: {what}{f', at {near!r}' if near else ', at the end of the text'}.",
        hint=_SYNTAX_HINTS.get(error.msg),
    )


@dataclass(slots=True)
class _Container:
    """An object or list that is open at one point of the slow pass."""

    is_object: bool
    names: set[str] = field(default_factory=set)
    here: str | int = 0
    """The member being read."""
    expects_name: bool = True


def _objections(source: str) -> list[Problem]:
    """The places the fast parser cannot name: well-formed text that is no unambiguous JSON."""
    problems: list[Problem] = []
    stack: list[_Container] = []

    def object_to(offset: int, message: str, hint: str | None = None) -> None:
        pointer = pointer_to(*(container.here for container in stack[:MAX_DEPTH]))
        problems.append(Problem(pointer=pointer, message=f"{_at(source, offset)}: {message}", hint=hint))

    for token in _TOKEN.finditer(source):
        text, top = token[0], stack[-1] if stack else None
        match token.lastgroup:
            case "open" if len(stack) == MAX_DEPTH:
                object_to(token.start(), f"brackets are nested more than {MAX_DEPTH} deep.")
                break
            case "open":
                stack.append(_Container(text == "{"))
            case "close" if stack:
                stack.pop()
            case "comma" if top and top.is_object:
                top.expects_name = True
            case "comma" if top and isinstance(top.here, int):
                top.here += 1
            case "string" if top and top.is_object and top.expects_name:
                name = _string(text)
                top.here, top.expects_name = name, False
                if name in top.names:
                    object_to(token.start(), f"the name {text[:80]} is given twice.", "keep one of the two")
                top.names.add(name)
                _check_surrogates(name, token.start(), object_to)
            case "string":
                _check_surrogates(_string(text), token.start(), object_to)
            case "word" if message := _bad_word(text):
                object_to(token.start(), message, "write a number, or leave the field out to take its default")
    return problems or [Problem(pointer="", message="This is not JSON that can be read without doubt.")]


def _string(token: str) -> str:
    try:
        return str(json.loads(token, strict=False))
    except json.JSONDecodeError:
        return token


def _check_surrogates(value: str, offset: int, object_to: Any) -> None:
    if any("\ud800" <= character <= "\udfff" for character in value):
        object_to(offset, "the string holds one half of a surrogate pair, which is no character.")


def _bad_word(text: str) -> str | None:
    if text.lstrip("-") in ("NaN", "Infinity"):
        return f"{text} is not a JSON number."
    if not text.lstrip("-")[:1].isdecimal():
        return None
    digits = text if len(text) <= 40 else f"{text[:37]}..."
    if len(text) > 400 and text.lstrip("-").isdecimal():
        return f"{digits} has {len(text)} digits, more than any number here needs."
    try:
        return f"{digits} is larger than any double-precision number." if math.isinf(float(text)) else None
    except ValueError:
        return None
