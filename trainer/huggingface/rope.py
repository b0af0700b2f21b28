"""Rotary positions in config.json: transformers 4 spreads them over several keys, transformers 5 has rope_parameters.

transformers 4: rope_theta, rope_scaling {rope_type (once: type), factor, ...}, and gemma3's rope_local_base_freq.
transformers 5: rope_parameters {rope_type, rope_theta, ...}; of gemma3 one such for each kind of layer.
Both are read; both are written, because each version ignores the other's keys without a word.
"""

from collections.abc import Mapping
from typing import Any

from trainer.huggingface.settings import Settings
from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import RopeScalingSection

KINDS = ("full_attention", "sliding_attention")
_DEFAULT_THETA = 10_000.0
_OF_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor")


def read_rope(settings: Settings) -> dict[str, Any]:
    """Fields rope_theta, rope_local_theta and rope_scaling of the section model."""
    if settings.number("partial_rotary_factor", 1.0) != 1.0:
        settings.problem("partial_rotary_factor: rotating only part of a head is not supported")
    scaling, parameters = _dictionary(settings, "rope_scaling"), _dictionary(settings, "rope_parameters")
    nested = {kind for kind in KINDS if kind in parameters}
    if settings.family == "gemma3":
        return _by_kind(settings, scaling, parameters, nested)
    if nested:
        settings.problem(f"rope_parameters has {_listed(nested)}: rotations by kind of layer are gemma3's alone")
    chosen = scaling or parameters
    theta = settings.as_number("rope_theta", chosen.get("rope_theta", settings.get("rope_theta")))
    return {
        "rope_theta": _DEFAULT_THETA if theta is None else theta,
        "rope_local_theta": None,
        "rope_scaling": _scaling(settings, chosen),
    }


def _by_kind(
    settings: Settings, scaling: dict[str, Any], parameters: dict[str, Any], nested: set[str]
) -> dict[str, Any]:
    if parameters and not nested:
        settings.problem(f"rope_parameters of gemma3 must have {_listed(set(KINDS))}")
    full, sliding = ((parameters.get(kind) or {}) for kind in KINDS)
    if _type(sliding) != "default":
        settings.problem(f"rope_parameters: {_type(sliding)!r} on sliding layers is not supported")
    return {
        "rope_theta": settings.as_number("rope_theta", full.get("rope_theta", settings.get("rope_theta"))),
        "rope_local_theta": settings.as_number(
            "rope_local_base_freq", sliding.get("rope_theta", settings.get("rope_local_base_freq"))
        ),
        "rope_scaling": _scaling(settings, scaling or full),
    }


def _dictionary(settings: Settings, key: str) -> dict[str, Any]:
    value = settings.get(key) or {}
    if not isinstance(value, dict):
        settings.problem(f"{key} is {value!r}, and must be an object")
        return {}
    return value


def _type(parameters: Mapping[str, Any]) -> Any:
    return parameters.get("rope_type", parameters.get("type", "default"))


def _scaling(settings: Settings, parameters: dict[str, Any]) -> dict[str, Any] | None:
    """The section model.rope_scaling."""
    kind = _type(parameters)
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        settings.problem("partial_rotary_factor: rotating only part of a head is not supported")
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        settings.problem(f"rope_type {kind!r} is not supported; supported are default, linear, llama3")
        return None
    needed = _OF_LLAMA3 if kind == "llama3" else ("factor",)
    missing = [name for name in needed if parameters.get(name) is None]
    if missing:
        settings.problem(f"rope_type {kind!r} needs {', '.join(missing)}")
        return None
    found: dict[str, Any] = {name: settings.as_number(name, parameters[name]) for name in needed}
    if kind == "llama3":
        found["original_max_seq_len"] = settings.get("original_max_position_embeddings") or parameters.get(
            "original_max_position_embeddings", settings.get("max_position_embeddings")
        )
        if found["high_freq_factor"] == found["low_freq_factor"]:
            settings.problem("rope_type 'llama3' needs a high_freq_factor above low_freq_factor")
    return {"kind": kind, **found}


def _listed(kinds: set[str]) -> str:
    return " and ".join(sorted(kinds))


def write_rope(model: ModelSection) -> dict[str, Any]:
    """The keys of both versions."""
    scaling = None if model.rope_scaling is None else _written(model.rope_scaling)
    full = {"rope_theta": model.rope_theta, **(scaling or {"rope_type": "default"})}
    keys: dict[str, Any] = {"rope_parameters": full, "rope_scaling": scaling, "rope_theta": model.rope_theta}
    if model.family == "gemma3":
        local = model.rope_theta if model.rope_local_theta is None else model.rope_local_theta
        sliding = {"rope_theta": local, "rope_type": "default"}
        keys["rope_parameters"] = {"full_attention": full, "sliding_attention": sliding}
        keys["rope_local_base_freq"] = local
    return keys


def _written(scaling: RopeScalingSection) -> dict[str, Any]:
    written: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        written["low_freq_factor"] = scaling.low_freq_factor
        written["high_freq_factor"] = scaling.high_freq_factor
        written["original_max_position_embeddings"] = scaling.original_max_seq_len
    return written
