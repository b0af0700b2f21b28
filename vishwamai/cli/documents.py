"""Configs as files: read, changed by --set, and every place in them traced back to its line."""

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vishwamai.cli.lines import lines_of
from vishwamai.cli.text import shortened
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.strict_json import parse_json, parse_value, pointer_to

STDIN = "-"


@dataclass(frozen=True)
class Document:
    """A config as read: its value, and where each part of it came from."""

    name: str
    """File name for messages."""
    text: str
    value: dict[str, Any]
    assigned: dict[str, str] = field(default_factory=dict)
    """Text of the --set that put a value in place, by JSON pointer."""

    @cached_property
    def lines(self) -> dict[str, int]:
        """Line numbers, from 1, by JSON pointer."""
        return lines_of(self.text)

    def source(self, place: str) -> str:
        """Where to look for what the pointer `place` means: a --set, or file and line of it or of what encloses it."""
        at = place
        while at not in self.lines:
            for assigned, setting in self.assigned.items():
                if f"{assigned}/".startswith(f"{at}/"):
                    return f"--set {setting}"
            at = at.rpartition("/")[0]
        return f"--set {self.assigned[at]}" if at in self.assigned else f"{self.name}:{self.lines[at]}"


def read(path: str) -> Document:
    """The document of a file, or of stdin for '-'. Raises InvalidConfig for what is no JSON object, and OSError."""
    raw = sys.stdin.buffer.read() if path == STDIN else Path(path).read_bytes()
    value = parse_json(raw)
    return Document(label(path), raw.decode("utf-8-sig"), value)


def label(path: str) -> str:
    """What messages call a file."""
    return "<stdin>" if path == STDIN else path


def assign(document: Document, settings: Sequence[str]) -> Document:
    """The document with each `section.field=value` in place. Raises InvalidConfig naming every bad one."""
    value = copy.deepcopy(document.value)
    assigned = dict(document.assigned)
    problems: list[Problem] = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        try:
            if not equals:
                raise ValueError("write it as section.field=value")
            place = _put(value, path.strip(), _literal(text))
        except ValueError as error:
            problems.append(Problem(pointer="", message=f"--set {shortened(setting, 120)}: {error}"))
        else:
            assigned[place] = shortened(setting, 120)
    if problems:
        raise InvalidConfig(problems)
    return Document(document.name, document.text, value, assigned)


def named(document: Document, name: str) -> Document:
    """The document with `run.name` set. Raises InvalidConfig when `run` is no section."""
    value = copy.deepcopy(document.value)
    try:
        place = _put(value, "run.name", name)
    except ValueError as error:
        raise InvalidConfig([Problem(pointer="/run", message=f"--name {name}: {error}")]) from error
    return Document(document.name, document.text, value, {**document.assigned, place: f"run.name={name}"})


def _put(value: dict[str, Any], path: str, new: Any) -> str:
    """Puts a value into place and returns its pointer; ValueError says what is wrong with the path."""
    keys = path.split(".")
    if not all(keys):
        raise ValueError(f"{path!r} is not a path such as training.max_steps")
    place = value
    for depth, key in enumerate(keys[:-1], start=1):
        # null means an absent section, so a setting inside it creates it.
        inner = place.get(key)
        if inner is None:
            inner = place[key] = {}
        if not isinstance(inner, dict):
            raise ValueError(f"{'.'.join(keys[:depth])} is not a section: it holds {json.dumps(inner)}")
        place = inner
    place[keys[-1]] = new
    return pointer_to(*keys)


def _literal(text: str) -> Any:
    """JSON where it is JSON, otherwise the text itself. Raises ValueError for JSON that may be misunderstood."""
    try:
        return parse_value(text)
    except json.JSONDecodeError:
        return text
    except InvalidConfig as error:
        raise ValueError("; ".join(problem.message for problem in error.problems)) from None
