"""From text to a checked config: strict JSON, then fields and contradictions, everything wrong said at once."""

from typing import Any

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.contradictions import contradictions
from vishwamai.contract.field_errors import valid_part
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.strict_json import kind_of, parse_json

__all__ = ["check_config", "parse_json"]


def check_config(document: Any) -> TrainingConfig:
    """The config in a document, which is an object as `parse_json` returns it.

    Raises InvalidConfig with every problem: each field that cannot be accepted, each contradiction among the others.
    """
    config, of_fields, contradictory = inspect(document)
    if problems := of_fields + contradictory:
        raise InvalidConfig(problems)
    return config


def inspect(document: Any) -> tuple[TrainingConfig, list[Problem], list[Problem]]:
    """The config without its invalid fields, what is wrong with those, and the contradictions among the others."""
    if not isinstance(document, dict):
        message = f"The config is {kind_of(document)}; it takes an object."
        raise InvalidConfig([Problem(pointer="", message=message, accepted="an object")])
    config, problems, invalid = valid_part(document)
    contradictory = [
        found.problem
        for found in contradictions(config)
        if not any(_touches(setting, name) for setting in found.settings for name in invalid)
    ]
    return config, problems, contradictory


def _touches(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
