"""What a run may change in its config between two lives, setting by setting.

A checkpoint keeps the effective config that it was trained with. Whoever goes on from it compares.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from vishwamai.contract.config import TrainingConfig


class Effect(StrEnum):
    """What a change of a setting does to a run that goes on from a checkpoint."""

    FREE = "free"
    """The run goes on as it would have."""
    CONTENT = "content"
    """Not the name counts but what is found there: the checkpoint knows its fingerprint."""
    COURSE = "course"
    """The run goes on, and trains otherwise from here on: a warning."""
    BREAKS = "breaks"
    """The state is of another model, or of no use to it: refused."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a change of these settings does, and why."""

    effect: Effect
    why: str
    settings: tuple[str, ...]


def _rule(effect: Effect, why: str, section: str, names: str) -> Rule:
    return Rule(effect, why, tuple(f"{section}.{name}" for name in names.split()))


RULES: tuple[Rule, ...] = (
    _rule(
        Effect.BREAKS,
        "arrays of the state have other shapes, or come and go",
        "model",
        "vocab_size hidden_dim num_layers num_heads num_kv_heads head_dim mlp_dim tie_embeddings post_norms qk_norm "
        "qkv_bias",
    ),
    _rule(
        Effect.BREAKS,
        "the same weights mean another function",
        "model",
        "activation embedding_scale norm_offset",
    ),
    _rule(Effect.BREAKS, "the moments are kept otherwise", "training.optimizer", "name state_dtype"),
    _rule(Effect.BREAKS, "tokens get other ids", "sequence", "pad_token_id eos_token_id"),
    _rule(Effect.CONTENT, "another tokenizer is refused", "data", "tokenizer"),
    _rule(Effect.CONTENT, "another corpus is refused, unless data.allow_change", "data", "train eval"),
    _rule(Effect.CONTENT, "other weights of the teacher are a warning", "distillation", "teacher_model"),
    _rule(
        Effect.COURSE,
        "the model computes something else, which its weights learn to follow",
        "model",
        "max_seq_len dropout_rate attention_dropout_rate norm_epsilon attention_scale attention_softcap logit_softcap "
        "rope_theta rope_local_theta rope_scaling.kind rope_scaling.factor rope_scaling.low_freq_factor "
        "rope_scaling.high_freq_factor rope_scaling.original_max_seq_len sliding_window layer_pattern",
    ),
    _rule(
        Effect.COURSE,
        "a step has other windows, so that some are seen again or left out",
        "training",
        "batch_size grad_accum_steps",
    ),
    _rule(
        Effect.COURSE,
        "the learning rate follows another schedule",
        "training",
        "learning_rate warmup_steps max_steps lr_schedule min_learning_rate_ratio decay_fraction",
    ),
    _rule(
        Effect.COURSE,
        "the weights move otherwise",
        "training",
        "weight_decay max_grad_norm z_loss label_smoothing optimizer.beta1 optimizer.beta2 optimizer.epsilon",
    ),
    _rule(
        Effect.COURSE,
        "another loss; a projection of other shape is refused",
        "distillation",
        "teacher_dtype divergence jsd_beta temperature final_temperature alpha use_intermediate_distillation "
        "intermediate_layer_mapping hidden_loss hidden_weight teacher_seq_len unshared_tokens cache cache_top_k "
        "cache_rest",
    ),
    _rule(
        Effect.COURSE,
        "other documents, or another order of their windows",
        "data",
        "eval_fraction format text_field min_length shuffle",
    ),
    _rule(Effect.COURSE, "other batches are left out", "training", "on_bad_loss spike_threshold"),
    _rule(Effect.FREE, "where prepared text is kept, and whether other text is taken", "data", "cache allow_change"),
    _rule(Effect.COURSE, "evaluation losses cannot be compared with earlier ones", "data", "eval_batches"),
    _rule(Effect.COURSE, "another order of the data, and other dropout", "run", "seed"),
    _rule(
        Effect.COURSE,
        "numbers are rounded otherwise",
        "optimization",
        "use_fp8 low_precision low_precision_skip use_dynamic_scale mixed_precision",
    ),
    _rule(Effect.COURSE, "numbers are rounded otherwise", "tpu", "use_bfloat16"),
    _rule(
        Effect.FREE,
        "any mesh restores any checkpoint, but for rounding; a warning where a step gets more or fewer sequences",
        "tpu",
        "accelerator tpu_cores tpu_topology num_slices spot device_strategy mesh_shape.data mesh_shape.fsdp "
        "mesh_shape.sequence mesh_shape.model",
    ),
    _rule(
        Effect.FREE,
        "the same numbers by another way, but for rounding",
        "optimization",
        "use_pjit block_size attention scan_layers weight_gather shard_weights",
    ),
    _rule(
        Effect.FREE,
        "the same numbers by another way, but for rounding",
        "memory",
        "gradient_checkpointing remat_policy attention_memory_efficient use_memory_efficient_attention",
    ),
    _rule(Effect.FREE, "not part of training", "memory", "kv_cache_fp8"),
    _rule(Effect.FREE, "not part of training", "sequence", "max_length min_length chunk_size"),
    _rule(Effect.FREE, "a name; what it stands for are the fields", "model", "family"),
    _rule(
        Effect.FREE,
        "when the run ends, not how it trains",
        "training",
        "max_bad_steps find_bad_layer early_stopping.patience early_stopping.min_delta early_stopping.eval_set",
    ),
    _rule(
        Effect.FREE,
        "when things happen, not how it trains",
        "logging",
        "log_every eval_every save_every profile_every",
    ),
    _rule(
        Effect.FREE,
        "where checkpoints are, and which",
        "checkpoint",
        "directory keep_last keep_every keep_best best_of asynchronous init_from restore",
    ),
    _rule(Effect.FREE, "where it runs, not how it trains", "tpu", "reservation flex_start compute_class"),
    _rule(
        Effect.FREE,
        "bookkeeping",
        "run",
        "name labels tags notes kind max_restarts grace_seconds stall_seconds queue priority_class",
    ),
)

RULE_OF: Mapping[str, Rule] = {name: rule for rule in RULES for name in rule.settings}
"""The rule of each setting by dotted name."""


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that differs between a checkpoint's config and the present one."""

    setting: str
    before: Any
    now: Any
    """Either is None for a setting whose section is absent."""
    rule: Rule

    def __str__(self) -> str:
        return f"{self.setting} was {_shown(self.before)} and is {_shown(self.now)} ({self.rule.why})"


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Settings that differ between two effective configs, as JSON; those that an older one does not have are equal."""
    found = []
    for name, rule in RULE_OF.items():
        path = name.split(".")
        if path[0] in before and _known(before, path) and (old := _at(before, path)) != (new := _at(now, path)):
            found.append(Change(name, old, new, rule))
    return found


def config_hash(config: TrainingConfig) -> str:
    """64 hexadecimal digits of the effective config: SHA-256 of its JSON with sorted names and no blanks."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _at(config: Mapping[str, Any], path: list[str]) -> Any:
    value: Any = config
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _known(config: Mapping[str, Any], path: list[str]) -> bool:
    """Whether the release that wrote the config had this setting; a section that is null may hide it."""
    value: Any = config
    for name in path:
        if value is None:
            return True
        if name not in value:
            return False
        value = value[name]
    return True


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
