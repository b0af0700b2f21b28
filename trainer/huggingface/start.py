"""Weights that a run starts from when checkpoint.init_from names a Hugging Face folder."""

from pathlib import Path
from typing import Any

from trainer.errors import UserError
from trainer.huggingface.load import Params, load_params, read_source
from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import RopeScalingSection
from vishwamai.contract.resolved import ResolvedJob

_FREE = frozenset({"family", "max_seq_len", "dropout_rate", "attention_dropout_rate"})
"""A run may name the same model otherwise, and choose these for its training."""
_DERIVED = {
    "num_kv_heads": "kv_heads",
    "attention_scale": "score_scale",
    "layer_pattern": "layer_kinds",
}
"""Fields whose absence means what the property says."""
_OF_WINDOWS = frozenset({"sliding_window", "rope_local_theta"})


def initial_params(job: ResolvedJob) -> Params:
    """The weights of checkpoint.init_from, float32 on the host.

    Raises UserError that names every field of the section model that the checkpoint contradicts, with its value there.
    """
    folder = job.effective.checkpoint.init_from
    assert folder is not None, "the job starts from no checkpoint"
    source = read_source(Path(folder), job.effective.model.max_seq_len)
    if wrong := differences(job.effective.model, source.model):
        told = "; ".join(f"model.{name} is {_shown(ours)}, and there {_shown(theirs)}" for name, ours, theirs in wrong)
        raise UserError(f"checkpoint.init_from {folder!r} holds another model: {told}")
    return load_params(source)


def differences(ours: ModelSection, theirs: ModelSection) -> list[tuple[str, Any, Any]]:
    """Fields in which two models differ as functions: name, our value, theirs."""
    skipped = set(_FREE)
    if "sliding" not in ours.layer_kinds and "sliding" not in theirs.layer_kinds:
        skipped |= _OF_WINDOWS
    found = []
    for name in ModelSection.model_fields:
        value, other = (getattr(model, _DERIVED.get(name, name)) for model in (ours, theirs))
        if name not in skipped and not _same(value, other):
            found.append((name, value, other))
    return found


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return abs(value - other) <= 1e-12 * abs(other)  # two ways to round the same root
    if isinstance(value, RopeScalingSection) and isinstance(other, RopeScalingSection) and value.kind == "linear":
        return (other.kind, other.factor) == ("linear", value.factor)
    return bool(value == other)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, RopeScalingSection):
        return ", ".join(f"{name} {setting}" for name, setting in value.model_dump().items())
    return "absent" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
