"""Names in configs of the original VishwamAI code that this config spells otherwise or does not have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Renamed:
    """The same setting under another name; the value is kept."""

    to: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """A choice this trainer does not leave open: one value means what happens anyway, any other is not supported."""

    value: Any
    why: str


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A dtype: bfloat16 or float32 become a truth value."""

    to: str = "tpu.use_bfloat16"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Nothing here does this."""

    why: str


@dataclass(frozen=True, slots=True)
class Special:
    """Needs other settings to be understood; see convert.py."""

    what: Literal["widening", "strategy", "distillation_enabled"]


BECAME: Mapping[str, str] = {
    "widening": "model.mlp_dim",
    "strategy": "tpu.device_strategy",
    "distillation_enabled": "distillation",
}
"""What each special name is about here."""

Rule = Renamed | Fixed | NumberFormat | Unsupported | Special

_ATTENTION = "memory.attention_memory_efficient"
_TREE = "tree-of-thought search belongs to inference, and this service trains"
_TEACHER_CACHE = "a teacher is cached by a job of its own: run.kind cache_teacher writes the folder distillation.cache"

LEGACY: Mapping[str, Rule] = {
    "model.use_flash_attn": Renamed(_ATTENTION),
    "model.use_rms_norm": Fixed(True, "normalization is always RMSNorm"),
    "model.use_rotary": Fixed(True, "positions are always rotary"),
    "model.use_enhanced": Unsupported("there is one model; its parts are chosen by their own settings"),
    "model.dtype": NumberFormat(),
    "model.emb_size": Renamed("model.hidden_dim"),
    "model.key_size": Renamed("model.head_dim"),
    "model.num_q_heads": Renamed("model.num_heads"),
    "model.widening_factor": Special("widening"),
    "model.init_scale": Fixed(1, "initialization is scaled so that the first loss is ln(vocab_size)"),
    "model.attn_output_multiplier": Fixed(1, "attention's output is not scaled"),
    "training.train_steps": Renamed("training.max_steps"),
    "training.beta1": Renamed("training.optimizer.beta1"),
    "training.beta2": Renamed("training.optimizer.beta2"),
    "training.epsilon": Renamed("training.optimizer.epsilon"),
    "training.log_every": Renamed("logging.log_every"),
    "training.eval_every": Renamed("logging.eval_every"),
    "training.save_every": Renamed("logging.save_every"),
    "training.dtype": NumberFormat(),
    "training.mixed_precision": Renamed("optimization.mixed_precision"),
    "optimization.fp8_margin": Unsupported("every product finds its scales anew, so there is no margin to set"),
    "optimization.use_flash_attention": Renamed(_ATTENTION),
    "optimization.dynamic_scale": Renamed("optimization.use_dynamic_scale"),
    "optimization.enable_kv_cache": Fixed(True, "generation always keeps keys and values"),
    "tpu.block_size": Renamed("optimization.block_size"),
    "tpu.compute_dtype": NumberFormat(),
    "tpu.output_dtype": Fixed("float32", "logits and loss are always float32"),
    "tpu.enable_pjit": Renamed("optimization.use_pjit"),
    "tpu.mixed_precision": Renamed("optimization.mixed_precision"),
    "tpu.rematerialize": Renamed("memory.gradient_checkpointing"),
    "tpu.sharding": Special("strategy"),
    "tpu.memory_optimization.activation_cache_size": Unsupported("what is recomputed is memory.gradient_checkpointing"),
    "tpu.memory_optimization.attention_chunk_size": Renamed("optimization.block_size"),
    "tpu.memory_optimization.kv_cache_size": Unsupported("the cache is as long as prompt and text need"),
    "distillation.enabled": Special("distillation_enabled"),
    "distillation.teacher_cache": Unsupported(_TEACHER_CACHE),
    "distillation.cache_teacher_outputs": Unsupported(_TEACHER_CACHE),
    "distillation.layer_match_strategy": Unsupported("layers are matched as intermediate_layer_mapping says"),
    "early_stopping": Renamed("training.early_stopping"),
    "early_stopping.patience": Renamed("training.early_stopping.patience"),
    "early_stopping.min_delta": Renamed("training.early_stopping.min_delta"),
    "tot": Unsupported(_TREE),
}
"""By dotted name; a rule for a section or object holds for everything inside it that has none of its own."""


def legacy_rule(name: str) -> Rule | None:
    """The rule for a dotted name of the original code; None when it is none of its names."""
    if name in LEGACY:
        return LEGACY[name]
    while name := name.rpartition(".")[0]:
        if isinstance(rule := LEGACY.get(name), Unsupported | Special):
            return rule
    return None


def is_legacy(name: str) -> bool:
    """Whether a dotted name, or everything under it, comes from the original code."""
    return legacy_rule(name) is not None or any(known.startswith(f"{name}.") for known in LEGACY)
