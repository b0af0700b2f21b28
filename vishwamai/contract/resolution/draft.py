"""The effective settings while they are being worked out, with the reasons."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.resolved import Decision


def requested_settings(config: TrainingConfig) -> dict[str, Any]:
    """What the config's author wrote: every field set explicitly, by dotted name. Only these can contradict."""
    return _requested(config, "")


def _requested(section: BaseModel, prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        if name not in section.model_fields_set:
            continue
        value = getattr(section, name)
        found |= _requested(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else {prefix + name: value}
    return found


class Asked:
    """A config read with its author's eyes: what was asked, and what is only a default."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.settings: Mapping[str, Any] = requested_settings(config)

    def __contains__(self, name: str) -> bool:
        """Whether the setting was given a value; null asks for nothing."""
        return self.settings.get(name) is not None

    def get(self, name: str) -> Any:
        """The value asked for, or None."""
        return self.settings.get(name)

    def both(self, *names: str) -> bool:
        """Whether all of these were asked."""
        return all(name in self for name in names)


class Draft:
    """Settings being decided: starts as the config with its defaults, ends as the effective config."""

    def __init__(self, config: TrainingConfig) -> None:
        self.asked = Asked(config)
        self.decisions: list[Decision] = []
        self._settings = config.model_dump()

    def __getitem__(self, name: str) -> Any:
        """The present value of a setting, by dotted name."""
        value: Any = self._settings
        for part in name.split("."):
            value = value[part]
        return value

    def decide(self, name: str, value: Any, why: str) -> None:
        """Gives a setting of the config its effective value, and says why."""
        section, _, field = name.rpartition(".")
        self[section][field] = value
        self.explain(name, value, why)

    def explain(self, name: str, effective: Any, why: str) -> None:
        """Says what runs without touching the config."""
        inside = {key: value for key, value in self.asked.settings.items() if key.startswith(f"{name}.")}
        requested = {key.removeprefix(f"{name}."): value for key, value in inside.items()} or self.asked.get(name)
        self.decisions.append(Decision(setting=name, requested=requested, effective=effective, why=why))

    def config(self) -> TrainingConfig:
        """The config as decided so far, every field set."""
        return TrainingConfig.model_validate(self._settings)
