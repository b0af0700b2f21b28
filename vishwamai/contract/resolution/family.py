"""A family's values for what the config leaves open, and settings of the model that others make idle."""

from typing import Any

from vishwamai.contract.families import FAMILIES
from vishwamai.contract.resolution import fit
from vishwamai.contract.resolution.draft import Draft

_OF_SLIDING_LAYERS = frozenset({"sliding_window", "rope_local_theta"})


def settle_family(draft: Draft) -> None:
    """Gives open fields of the section model what the family has, then answers what is not used."""
    family, facts = draft["model.family"], FAMILIES[draft["model.family"]]
    pattern = draft.asked.get("model.layer_pattern") or facts.usual.get("layer_pattern")
    slides = pattern is None or "sliding" in pattern[: draft["model.num_layers"]]
    for values, why in (
        (facts.fixed, f"{family} is built so"),
        (facts.usual, f"not given; usual for {family}"),
    ):
        for field, value in values.items():
            idle = field in _OF_SLIDING_LAYERS and not slides
            if f"model.{field}" not in draft.asked and value != draft[f"model.{field}"] and not idle:
                draft.decide(f"model.{field}", value, why)
    _rope_scaling(draft)
    _idle(draft)


def _rope_scaling(draft: Draft) -> None:
    scaling = draft["model.rope_scaling"]
    if scaling is None:
        return
    names = ("low_freq_factor", "high_freq_factor")
    if scaling["kind"] == "linear":
        for field in (*names, "original_max_seq_len"):
            _not_used(draft, f"model.rope_scaling.{field}", "linear scaling divides every frequency by factor")
        return
    for field, value in zip(names, fit.frequency_factors(draft.asked), strict=True):
        if value != scaling[field]:
            why = f"the default {scaling[field]:g} does not fit the other factor: low is below high"
            draft.decide(f"model.rope_scaling.{field}", value, why)


def _idle(draft: Draft) -> None:
    """Answers windows, patterns and bases that no layer uses."""
    model = draft.config().model
    if "sliding" not in model.layer_kinds:
        _not_used(draft, "model.sliding_window", "no layer is sliding, by layer_pattern")
        _not_used(draft, "model.rope_local_theta", "no layer is sliding")
    elif model.sliding_window is not None and model.sliding_window >= model.max_seq_len:
        why = f"a window of {model.max_seq_len} tokens holds no more keys than that"
        _not_used(draft, "model.sliding_window", why)
    if model.layer_pattern and len(model.layer_pattern) > model.num_layers:
        _not_used(draft, "model.layer_pattern", f"beyond its first {model.num_layers}: there are no more layers")


def _not_used(draft: Draft, name: str, why: str) -> None:
    """Answers a setting that was asked for and has no effect."""
    if name in draft.asked:
        value: Any = draft[name]
        draft.explain(name, value, f"not used: {why}")
