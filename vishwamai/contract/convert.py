"""Configs of the original VishwamAI code, rewritten: every name is kept, renamed, or answered.

Where an old name and the guide's name of one setting differ, the guide's stands. What remains always passes
`check_config`: values that do not are left out, and their note says why.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.config import ModelSection
from vishwamai.contract.field_errors import in_quotes, shortened
from vishwamai.contract.legacy import Fixed, NumberFormat, Renamed, Special, Unsupported, legacy_rule
from vishwamai.contract.load import inspect
from vishwamai.contract.nearness import nearest
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.schema import find, members, settings
from vishwamai.contract.strict_json import kind_of

Outcome = Literal["kept", "renamed", "same_meaning", "contradiction", "not_supported"]
STRATEGIES = ("data_parallel", "fsdp", "model_parallel", "sequence_parallel")


class ConversionNote(Value):
    """What became of one name of the old config."""

    name: str = Field(description="Dotted name in the old config.")
    value: Any = Field(None, description="Its value there, shortened when long.")
    outcome: Outcome = Field(
        description=(
            "kept: as it was; renamed: the value stands under another name; same_meaning: nothing needs to be written; "
            "contradiction: another setting says otherwise and stands; not_supported: left out."
        )
    )
    setting: str | None = Field(None, description="Dotted name in the new config; null when nothing was written.")
    why: str


class Conversion(Value):
    """A config of this release made from an old one."""

    config: dict[str, Any] = Field(description="Passes check_config.")
    notes: list[ConversionNote] = Field(description="One for every name of the old config, in its order.")


def convert(document: dict[str, Any]) -> Conversion:
    """Rewrites a config of the original code; one that is already of this release comes back as it was.

    Raises InvalidConfig when the document is not an object.
    """
    if not isinstance(document, dict):
        raise InvalidConfig([Problem(pointer="", message=f"The config is {kind_of(document)}; it takes an object.")])
    rewriting = _Rewriting(document)
    for name, value in _leaves(document):
        rewriting.keep(name, value)
    for name, value in _leaves(document):
        rewriting.translate(name, value)
    rewriting.drop_refused()
    return Conversion(config=rewriting.nested(), notes=rewriting.notes_in_order())


_FREE_NAMES = {"run.labels", "data.eval"}
"""Settings that may be objects whose names are the author's own."""


def _leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every name with a value, dotted; an empty object and a setting that is an object are values."""
    for key, inner in value.items():
        name = prefix + (f'"{key}"' if "." in key else key)
        if isinstance(inner, dict) and inner and name not in _FREE_NAMES:
            yield from _leaves(inner, f"{name}.")
        else:
            yield name, inner


class _Rewriting:
    """The new config while it is written: flat, by dotted name."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.old = dict(_leaves(document))
        self.new: dict[str, Any] = {}
        self.notes: dict[str, ConversionNote] = {}

    def note(self, name: str, outcome: Outcome, why: str, setting: str | None = None) -> None:
        """Says what became of a name."""
        value = shortened(self.old[name])
        self.notes[name] = ConversionNote(name=name, value=value, outcome=outcome, setting=setting, why=why)

    def keep(self, name: str, value: Any) -> None:
        """Takes over a name that this config has too."""
        if name not in settings():
            return
        if name.startswith("distillation.") and self.old.get("distillation.enabled") is False:
            self.note(
                name, "same_meaning", "distillation.enabled is false, and a teacher that is off needs no settings"
            )
            return
        self.write(name, name, value)

    def translate(self, name: str, value: Any) -> None:
        """Finds a place for a name that this config spells otherwise, or says why there is none."""
        if name in self.notes:
            return
        match legacy_rule(name):
            case Renamed(to):
                self.write(name, to, value)
            case NumberFormat(to) if value in ("bfloat16", "bf16", "float32", "fp32"):
                self.write(name, to, value in ("bfloat16", "bf16"))
            case NumberFormat():
                self.note(name, "not_supported", "computing is in bfloat16 or float32 (tpu.use_bfloat16)")
            case Fixed(fixed, why) if value == fixed and isinstance(value, bool) == isinstance(fixed, bool):
                self.note(name, "same_meaning", why)
            case Fixed(_, why) | Unsupported(why):
                self.note(name, "not_supported", why)
            case Special("widening"):
                self._widen(name, value)
            case Special("strategy"):
                self._strategy(name, value)
            case Special():
                self._enabled(name, value)
            case None:
                near = nearest(name.rpartition(".")[2], {setting.rpartition(".")[2] for setting in settings()})
                meant = f"; did you mean {near}?" if near else ""
                self.note(name, "not_supported", f"neither this config nor the original code has this name{meant}")

    def write(self, name: str, setting: str, value: Any) -> None:
        """Puts a value under its name here, unless that says something already."""
        if members(find(tuple(setting.split("."))) or {}) and not isinstance(value, dict):
            same = value is None
            why = (
                "null asks for nothing, like leaving it out" if same else f"it is {kind_of(value)}, and takes an object"
            )
            self.note(name, "same_meaning" if same else "not_supported", why)
        elif setting not in self.new:
            self.new[setting] = value
            outcome: Outcome = "kept" if name == setting else "renamed"
            changed = "" if value == self.old[name] else f", {in_quotes(value)}"
            why = "the same name here" if name == setting else f"here it is {setting}{changed}"
            self.note(name, outcome, why, setting)
        elif self.new[setting] == value:
            self.note(name, "same_meaning", f"{setting} says the same", setting)
        else:
            why = f"{setting} is {in_quotes(self.new[setting])} and stands; this would make it {in_quotes(value)}"
            self.note(name, "contradiction", why, setting)

    def _widen(self, name: str, factor: Any) -> None:
        width = self.new.get("model.hidden_dim", self.old.get("model.emb_size", ModelSection().hidden_dim))
        numbers = all(isinstance(n, int | float) and not isinstance(n, bool) for n in (factor, width))
        if numbers and math.isfinite(factor * width):
            self.write(name, "model.mlp_dim", round(factor * width))
        else:
            self.note(name, "not_supported", "it must be a number, by which hidden_dim is multiplied to give mlp_dim")

    def _strategy(self, name: str, value: Any) -> None:
        strategy = name.rpartition(".")[2] if isinstance(value, bool) else value
        if strategy not in STRATEGIES:
            self.note(
                name, "not_supported", f"what devices are for is tpu.device_strategy: one of {', '.join(STRATEGIES)}"
            )
        elif value is False:
            self.note(name, "same_meaning", "tpu.device_strategy names the one strategy that is on")
        else:
            self.write(name, "tpu.device_strategy", strategy)

    def _enabled(self, name: str, value: Any) -> None:
        if value is True:
            self.new.setdefault("distillation", {})
            self.note(name, "same_meaning", "the section's presence turns distillation on")
        elif value is False:
            self.note(name, "same_meaning", "without the section there is no distillation")
        else:
            self.note(name, "not_supported", "it takes true or false; the section's presence turns distillation on")

    def nested(self) -> dict[str, Any]:
        """The new config as sections, in the order of the schema."""
        config: dict[str, Any] = {}
        order = {name: place for place, name in enumerate(settings())}
        for name in sorted(self.new, key=lambda setting: order[setting]):
            *sections, field = name.split(".")
            holder = config
            for section in sections:
                holder = holder.setdefault(section, {})
            holder[field] = copy.deepcopy(self.new[name])
        return config

    def drop_refused(self) -> None:
        """Leaves out values that the new config does not accept, one refusal after another, until it does."""
        while self.new:
            _, of_fields, contradictory = inspect(self.nested())
            if of_fields:
                self._drop(of_fields[0], "not_supported")
            elif contradictory:
                self._drop(contradictory[0], "contradiction")
            else:
                return

    def _drop(self, problem: Problem, outcome: Outcome) -> None:
        place = problem.pointer.removeprefix("/").replace("/", ".")
        touched = [s for s in self.new if s == place or place.startswith(f"{s}.") or s.startswith(f"{place}.")]
        for setting in touched or list(self.new)[-1:]:
            del self.new[setting]
            for name, note in self.notes.items():
                if note.setting == setting:
                    self.note(name, outcome, f"left out: {problem.message}")

    def notes_in_order(self) -> list[ConversionNote]:
        """The notes in the old config's order."""
        return [self.notes[name] for name in self.old]
