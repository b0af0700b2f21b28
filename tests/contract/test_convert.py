"""Configs of the original code become configs of this release, and every name is answered."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.strategies import json_values, valid_documents
from vishwamai.contract.convert import Conversion, ConversionNote, convert
from vishwamai.contract.legacy import LEGACY
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig

OLD: dict[str, Any] = {
    "model": {
        "vocab_size": 32000,
        "attention_dropout_rate": 0.1,
        "use_flash_attn": True,
        "use_rms_norm": True,
        "use_rotary": True,
        "dtype": "bfloat16",
        "emb_size": 512,
        "key_size": 32,
        "num_q_heads": 16,
        "num_kv_heads": 4,
        "widening_factor": 4.0,
        "init_scale": 1.0,
    },
    "training": {
        "batch_size": 4,
        "train_steps": 1000,
        "warmup_steps": 50,
        "beta1": 0.9,
        "beta2": 0.98,
        "epsilon": 1e-9,
        "save_every": 200,
        "dtype": "bfloat16",
        "mixed_precision": True,
    },
    "optimization": {"use_fp8": True, "fp8_margin": 0.01, "use_flash_attention": True, "dynamic_scale": False},
    "tpu": {
        "block_size": 256,
        "compute_dtype": "bfloat16",
        "enable_pjit": True,
        "rematerialize": False,
        "sharding": {"data_parallel": False, "model_parallel": True},
    },
    "distillation": {"enabled": True, "teacher_model": "gemma-2b", "teacher_cache": True},
    "early_stopping": {"patience": 3, "min_delta": 0.001},
    "tot": {"max_depth": 3, "beam_width": 5},
}
NEW: dict[str, Any] = {
    "model": {
        "vocab_size": 32000,
        "hidden_dim": 512,
        "num_heads": 16,
        "num_kv_heads": 4,
        "head_dim": 32,
        "mlp_dim": 2048,
        "attention_dropout_rate": 0.1,
    },
    "training": {
        "batch_size": 4,
        "warmup_steps": 50,
        "max_steps": 1000,
        "optimizer": {"beta1": 0.9, "beta2": 0.98, "epsilon": 1e-9},
        "early_stopping": {"patience": 3, "min_delta": 0.001},
    },
    "tpu": {"device_strategy": "model_parallel", "use_bfloat16": True},
    "memory": {"gradient_checkpointing": False, "attention_memory_efficient": True},
    "optimization": {
        "use_fp8": True,
        "use_pjit": True,
        "block_size": 256,
        "use_dynamic_scale": False,
        "mixed_precision": True,
    },
    "distillation": {"teacher_model": "gemma-2b"},
    "logging": {"save_every": 200},
}


def note(conversion: Conversion, name: str) -> ConversionNote:
    (found,) = (entry for entry in conversion.notes if entry.name == name)
    return found


def test_an_old_config():
    conversion = convert(OLD)
    assert conversion.config == NEW
    check_config(conversion.config)


@pytest.mark.parametrize(
    ("name", "outcome", "setting"),
    [
        ("model.vocab_size", "kept", "model.vocab_size"),
        ("model.emb_size", "renamed", "model.hidden_dim"),
        ("model.widening_factor", "renamed", "model.mlp_dim"),
        ("model.num_kv_heads", "kept", "model.num_kv_heads"),
        ("model.attention_dropout_rate", "kept", "model.attention_dropout_rate"),
        ("model.use_rotary", "same_meaning", None),
        ("model.init_scale", "same_meaning", None),
        ("model.use_flash_attn", "renamed", "memory.attention_memory_efficient"),
        ("optimization.use_flash_attention", "same_meaning", "memory.attention_memory_efficient"),
        ("training.dtype", "same_meaning", "tpu.use_bfloat16"),
        ("training.save_every", "renamed", "logging.save_every"),
        ("optimization.fp8_margin", "not_supported", None),
        ("tpu.sharding.model_parallel", "renamed", "tpu.device_strategy"),
        ("tpu.sharding.data_parallel", "same_meaning", None),
        ("distillation.enabled", "same_meaning", None),
        ("distillation.teacher_cache", "not_supported", None),
        ("early_stopping.patience", "renamed", "training.early_stopping.patience"),
        ("tot.max_depth", "not_supported", None),
    ],
)
def test_what_became_of_a_name(name: str, outcome: str, setting: str | None):
    found = note(convert(OLD), name)
    assert (found.outcome, found.setting) == (outcome, setting)
    assert found.why


@pytest.mark.parametrize(
    ("document", "name", "outcome", "config"),
    [
        (
            {"model": {"hidden_dim": 512, "emb_size": 256}},
            "model.emb_size",
            "contradiction",
            {"model": {"hidden_dim": 512}},
        ),
        (
            {"model": {"mlp_dim": 3072, "widening_factor": 4}},
            "model.widening_factor",
            "same_meaning",
            {"model": {"mlp_dim": 3072}},
        ),
        (
            {"model": {"mlp_dim": 99, "widening_factor": 4}},
            "model.widening_factor",
            "contradiction",
            {"model": {"mlp_dim": 99}},
        ),
        ({"model": {"widening_factor": "4"}}, "model.widening_factor", "not_supported", {}),
        ({"model": {"use_rotary": False}}, "model.use_rotary", "not_supported", {}),
        ({"model": {"dtype": "float16"}}, "model.dtype", "not_supported", {}),
        ({"model": {"dtype": "float32"}}, "model.dtype", "renamed", {"tpu": {"use_bfloat16": False}}),
        (
            {"model": {"dtype": "float32"}, "tpu": {"compute_dtype": "bfloat16"}},
            "tpu.compute_dtype",
            "contradiction",
            {"tpu": {"use_bfloat16": False}},
        ),
        ({"distillation": {"enabled": False, "alpha": 0.3}}, "distillation.alpha", "same_meaning", {}),
        ({"distillation": {"enabled": True}}, "distillation.enabled", "same_meaning", {"distillation": {}}),
        ({"training": {"train_steps": "many"}}, "training.train_steps", "not_supported", {}),
        ({"training": {"batch_size": 0}}, "training.batch_size", "not_supported", {}),
        (
            {"training": {"train_steps": 100, "warmup_steps": 100}},
            "training.warmup_steps",
            "contradiction",
            {"training": {"max_steps": 100}},
        ),
        ({"early_stopping": {}}, "early_stopping", "renamed", {"training": {"early_stopping": {}}}),
        ({"tot": {}}, "tot", "not_supported", {}),
        ({"data": 3}, "data", "not_supported", {}),
        ({"model": None}, "model", "same_meaning", {}),
        ({"model": {"colour": 1}}, "model.colour", "not_supported", {}),
        ({"model.hidden_dim": 3}, '"model.hidden_dim"', "not_supported", {}),
        ({"tpu": {"sharding": "fsdp"}}, "tpu.sharding", "renamed", {"tpu": {"device_strategy": "fsdp"}}),
    ],
)
def test_one_name(document: dict[str, Any], name: str, outcome: str, config: dict[str, Any]):
    conversion = convert(document)
    assert conversion.config == config
    assert note(conversion, name).outcome == outcome


def test_a_value_that_changes_with_its_name_is_told():
    conversion = convert({"model": {"emb_size": 512, "widening_factor": 4.0, "dtype": "float32", "key_size": 64}})
    assert note(conversion, "model.widening_factor").why == "here it is model.mlp_dim, 2048"
    assert note(conversion, "model.dtype").why == "here it is tpu.use_bfloat16, false"
    assert note(conversion, "model.key_size").why == "here it is model.head_dim"


def test_a_cache_is_not_optional():
    assert note(convert({"optimization": {"enable_kv_cache": False}}), "optimization.enable_kv_cache").outcome == (
        "not_supported"
    )
    conversion = convert({"optimization": {"enable_kv_cache": True}})
    assert note(conversion, "optimization.enable_kv_cache").outcome != "not_supported"


def test_a_list_is_no_config():
    with pytest.raises(InvalidConfig):
        convert([])  # type: ignore[arg-type]


@settings(max_examples=60)
@given(valid_documents())
def test_a_config_of_this_release_comes_back_as_it_was(document: dict[str, Any]):
    conversion = convert(document)
    assert check_config(conversion.config) == check_config(document)
    assert {entry.outcome for entry in conversion.notes} <= {"kept", "same_meaning"}


@st.composite
def old_documents(draw: st.DrawFn) -> dict[str, Any]:
    """Old names with values right and wrong, among sections of a valid config."""
    document: dict[str, Any] = draw(valid_documents())
    for name in draw(st.lists(st.sampled_from(sorted(LEGACY)), max_size=12)):
        *sections, last = name.split(".")
        holder = document
        for section in sections:
            if not isinstance(holder.get(section), dict):
                holder[section] = {}
            holder = holder[section]
        holder[last] = draw(st.sampled_from([True, False, 1, 4, 64, 0.9, "bfloat16", None]) | json_values())
    return document


@settings(max_examples=60)
@given(old_documents())
def test_any_old_config_becomes_a_valid_one_with_a_note_for_every_name(document: dict[str, Any]):
    before = copy.deepcopy(document)
    conversion = convert(document)
    assert document == before
    check_config(conversion.config)
    assert len({entry.name for entry in conversion.notes}) == len(conversion.notes) == leaves(document)


def leaves(value: dict[str, Any], place: str = "") -> int:
    inner = ((f"{place}.{key}", entry) for key, entry in value.items())
    return sum(
        leaves(entry, at) if isinstance(entry, dict) and entry and at not in {".run.labels", ".data.eval"} else 1
        for at, entry in inner
    )
