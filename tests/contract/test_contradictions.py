"""Two requests that exclude each other are an error that names both; a default steps aside instead."""

import json
from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve

CONTRADICTIONS: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"model": {"num_heads": 12, "num_kv_heads": 5}}, "/model/num_kv_heads", ["5", "num_heads 12"]),
    ({"model": {"num_heads": 7, "hidden_dim": 100}}, "/model/num_heads", ["7", "hidden_dim 100", "head_dim"]),
    ({"model": {"num_heads": 4, "hidden_dim": 12}}, "/model/num_heads", ["12 / 4 = 3", "even"]),
    ({"model": {"family": "gemma", "qkv_bias": True}}, "/model/qkv_bias", ["true", "family gemma has false"]),
    (
        {"model": {"layer_pattern": ["full", "sliding"]}},
        "/model/layer_pattern",
        ["sliding layers", "sliding_window is not given"],
    ),
    (
        {"model": {"rope_scaling": {"low_freq_factor": 4.0, "high_freq_factor": 4.0}}},
        "/model/rope_scaling/low_freq_factor",
        ["4", "not below", "high_freq_factor 4"],
    ),
    (
        {"memory": {"gradient_checkpointing": False, "remat_policy": "dots"}},
        "/memory/remat_policy",
        ['"dots"', "gradient_checkpointing is false"],
    ),
    (
        {"memory": {"gradient_checkpointing": True, "remat_policy": "none"}},
        "/memory/remat_policy",
        ['"none"', "gradient_checkpointing is true"],
    ),
    ({"training": {"warmup_steps": 100, "max_steps": 100}}, "/training/warmup_steps", ["100", "max_steps 100"]),
    ({"training": {"warmup_steps": 1_000_000_000}}, "/training/warmup_steps", ["1000000000"]),
    ({"sequence": {"max_length": 65}, "model": {"max_seq_len": 64}}, "/sequence/max_length", ["65", "max_seq_len 64"]),
    ({"sequence": {"min_length": 65}, "model": {"max_seq_len": 64}}, "/sequence/min_length", ["65", "max_seq_len 64"]),
    ({"sequence": {"min_length": 9, "max_length": 8}}, "/sequence/min_length", ["9", "max_length 8"]),
    (
        {"sequence": {"eos_token_id": 300}, "model": {"vocab_size": 300}},
        "/sequence/eos_token_id",
        ["vocab_size is 300"],
    ),
    (
        {"sequence": {"pad_token_id": 999}, "model": {"vocab_size": 300}},
        "/sequence/pad_token_id",
        ["vocab_size is 300"],
    ),
    ({"sequence": {"eos_token_id": 3, "pad_token_id": 3}}, "/sequence/eos_token_id", ["both 3"]),
    ({"model": {"vocab_size": 257}}, "/model/vocab_size", ["257", "258 tokens"]),
    ({"logging": {"eval_every": 5}, "data": {"eval_fraction": 0.0}}, "/logging/eval_every", ["eval_fraction is 0"]),
    ({"data": {"train": ["a.txt", {"name": "b", "files": ["b.txt"]}]}}, "/data/train", ["mixes locations and sources"]),
    ({"data": {"train": [{"name": "b", "files": [file]} for file in "xy"]}}, "/data/train", ["several", "called b"]),
    (
        {"checkpoint": {"directory": "s3://bucket/run"}},
        "/checkpoint/directory",
        ["s3://bucket/run", "nothing is written"],
    ),
    ({"checkpoint": {"directory": "gs://"}}, "/checkpoint/directory", ["gs://", "nothing is written"]),
    ({"data": {"cache": "gs://bucket/cache"}}, "/data/cache", ["gs://bucket/cache", "nothing is written"]),
    ({"checkpoint": {"best_of": "code"}}, "/checkpoint/best_of", ["'code'", "no set of that name"]),
    (
        {"training": {"early_stopping": {"eval_set": "code"}}, "data": {"eval": {"wiki": ["a"], "books": ["b"]}}},
        "/training/early_stopping/eval_set",
        ["'code'", "data.eval has no set of that name"],
    ),
    (
        {"training": {"early_stopping": {}}, "logging": {"eval_every": 0}},
        "/training/early_stopping",
        ["logging.eval_every is 0"],
    ),
    (
        {"training": {"early_stopping": {}}, "data": {"eval_fraction": 0.0}},
        "/training/early_stopping",
        ["data.eval_fraction is 0"],
    ),
    (
        {"optimization": {"shard_weights": False}, "tpu": {"device_strategy": "fsdp"}},
        "/optimization/shard_weights",
        ["device_strategy is fsdp"],
    ),
    (
        {"optimization": {"shard_weights": False}, "tpu": {"mesh_shape": {"fsdp": 8}}},
        "/optimization/shard_weights",
        ["mesh_shape.fsdp is 8"],
    ),
    ({"checkpoint": {"restore": 10}, "training": {"max_steps": 10}}, "/checkpoint/restore", ["max_steps is 10"]),
    (
        {"tpu": {"mesh_shape": {"model": 8}}, "model": {"num_heads": 12}},
        "/tpu/mesh_shape/model",
        ["8", "num_heads 12"],
    ),
    (
        {"tpu": {"mesh_shape": {"model": 8}}, "model": {"num_kv_heads": 4}},
        "/tpu/mesh_shape/model",
        ["8", "num_kv_heads 4"],
    ),
    ({"tpu": {"mesh_shape": {"model": 8}}, "model": {"mlp_dim": 100}}, "/tpu/mesh_shape/model", ["8", "mlp_dim 100"]),
    (
        {"tpu": {"mesh_shape": {"sequence": 8}}, "model": {"max_seq_len": 100}},
        "/tpu/mesh_shape/sequence",
        ["8", "max_seq_len 100"],
    ),
]


@pytest.mark.parametrize(
    ("document", "pointer", "words"), CONTRADICTIONS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_contradiction_names_both_sides(document: dict[str, Any], pointer: str, words: list[str]):
    with pytest.raises(InvalidConfig) as caught:
        check_config(document)
    (problem,) = caught.value.problems
    assert problem.pointer == pointer
    for word in words:
        assert word in problem.message
    json.dumps(problem.model_dump())


@pytest.mark.parametrize(
    ("document", "moved"),
    [
        ({"training": {"max_steps": 100}}, {"training.warmup_steps": 10}),
        ({"training": {"max_steps": 1}}, {"training.warmup_steps": 0}),
        ({"training": {"warmup_steps": 600_000}}, {"training.max_steps": 6_000_000}),
        ({"checkpoint": {"restore": 600_000}}, {"training.max_steps": 1_100_000}),
        ({"model": {"max_seq_len": 64}}, {"sequence.max_length": 64}),
        ({"model": {"max_seq_len": 4}}, {"sequence.max_length": 4, "sequence.min_length": 4}),
        ({"sequence": {"max_length": 4096}}, {"model.max_seq_len": 4096}),
        ({"sequence": {"max_length": 4}}, {"sequence.min_length": 4}),
        ({"sequence": {"eos_token_id": 200_000}}, {"model.vocab_size": 200_064}),
        ({"sequence": {"eos_token_id": 0}}, {"sequence.pad_token_id": 1}),
        ({"sequence": {"pad_token_id": 1}}, {"sequence.eos_token_id": 0}),
        ({"model": {"hidden_dim": 512}}, {"model.num_heads": 8, "model.head_dim": 64}),
        ({"model": {"hidden_dim": 256, "num_heads": 8}}, {"model.head_dim": 32}),
        ({"model": {"num_kv_heads": 5}}, {"model.num_heads": 15}),
        ({"tpu": {"mesh_shape": {"model": 8}}}, {"model.num_heads": 16, "model.head_dim": 48}),
        ({"data": {"eval_fraction": 0.0}}, {"logging.eval_every": 0}),
        ({"tpu": {"device_strategy": "fsdp"}}, {"optimization.shard_weights": True}),
        ({"memory": {"remat_policy": "none"}}, {"memory.gradient_checkpointing": False}),
        ({"model": {"family": "llama"}}, {"model.activation": "swiglu", "model.tie_embeddings": False}),
    ],
)
def test_a_default_steps_aside(document: dict[str, Any], moved: dict[str, Any]):
    job = resolve(check_config(document))
    decided = {decision.setting for decision in job.decisions}
    effective = job.effective.model_dump()
    for name, value in moved.items():
        section, field = name.split(".")
        assert effective[section][field] == value
        assert name in decided or value == type(job.effective)().model_dump()[section][field]


def test_linear_scaling_has_no_frequency_factors_to_contradict():
    check_config({"model": {"rope_scaling": {"kind": "linear", "low_freq_factor": 4.0, "high_freq_factor": 2.0}}})


def test_head_dim_frees_the_heads():
    job = resolve(check_config({"model": {"num_heads": 7, "hidden_dim": 100, "head_dim": 16}}))
    assert (job.effective.model.num_heads, job.effective.model.head_dim) == (7, 16)
    assert any(d.setting == "model.head_dim" and "112 wide" in d.why for d in job.decisions)
