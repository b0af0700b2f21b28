"""What runs for what was asked: precision, attention, loss chunks, sharding, batch; and what does not run."""

from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Batch, Decision, ResolvedJob


def job(**document: Any) -> ResolvedJob:
    return resolve(check_config(document))


def why(resolved: ResolvedJob, setting: str) -> Decision:
    (found,) = (entry for entry in resolved.decisions if entry.setting == setting)
    return found


@pytest.mark.parametrize(
    ("bfloat16", "mixed", "compute"),
    [(True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32"), (False, False, "float32")],
)
def test_bfloat16_needs_both_switches(bfloat16: bool, mixed: bool, compute: str):
    resolved = job(tpu={"use_bfloat16": bfloat16}, optimization={"mixed_precision": mixed})
    assert resolved.precision.compute == compute
    assert resolved.precision.loss_scale == "none"
    low = compute == "bfloat16"
    assert resolved.effective.tpu.use_bfloat16 is low
    assert resolved.effective.optimization.mixed_precision is low
    if bfloat16 != mixed:
        on = "tpu.use_bfloat16" if bfloat16 else "optimization.mixed_precision"
        assert why(resolved, on).effective is False


@pytest.mark.parametrize(
    ("accelerator", "words"), [("v5p", "no faster than bfloat16"), ("tpu7x", "on tpu7x they arrive")]
)
def test_fp8_is_answered(accelerator: str, words: str):
    resolved = job(
        optimization={"use_fp8": True, "use_dynamic_scale": True},
        memory={"kv_cache_fp8": True},
        tpu={"accelerator": accelerator},
    )
    assert words in why(resolved, "optimization.use_fp8").why
    assert "loss scale" in why(resolved, "optimization.use_dynamic_scale").why
    for section, name in (
        ("optimization", "use_fp8"),
        ("optimization", "use_dynamic_scale"),
        ("memory", "kv_cache_fp8"),
    ):
        assert getattr(getattr(resolved.effective, section), name) is False
        assert why(resolved, f"{section}.{name}").requested is True
    # Generation has no cache at all yet (trainer/generate/sample.py).
    assert "keeps no keys and values" in why(resolved, "memory.kv_cache_fp8").why


@pytest.mark.parametrize(
    ("setting", "document"),
    [
        ("logging.profile_every", {"logging": {"profile_every": 10}}),
        ("sequence.chunk_size", {"sequence": {"chunk_size": 64}}),
        ("optimization.use_pjit", {"optimization": {"use_pjit": False}}),
        ("optimization.block_size", {"optimization": {"block_size": 64}, "model": {"max_seq_len": 32}}),
        ("training.decay_fraction", {"training": {"decay_fraction": 0.5}}),
        ("training.min_learning_rate_ratio", {"training": {"min_learning_rate_ratio": 0.5, "lr_schedule": "constant"}}),
        ("data.eval_fraction", {"data": {"eval": ["x.txt"], "eval_fraction": 0.1}}),
        ("checkpoint.keep_every", {"checkpoint": {"keep_every": 10}, "logging": {"save_every": 0}}),
        ("tpu.device_strategy", {"tpu": {"device_strategy": "fsdp", "mesh_shape": {"data": 8, "fsdp": 1}}}),
    ],
)
def test_a_setting_without_effect_has_a_decision(setting: str, document: dict[str, Any]):
    assert why(job(**document), setting).why


def test_pjit_is_not_optional():
    assert job(optimization={"use_pjit": False}).effective.optimization.use_pjit is True


@pytest.mark.parametrize(
    ("memory", "window", "block", "kernel", "used"),
    [
        ({}, 2048, 128, "blockwise", 128),
        ({}, 128, 128, "dense", 128),
        ({}, 64, 128, "dense", 64),
        ({"attention_memory_efficient": False}, 2048, 128, "blockwise", 128),
        ({"attention_memory_efficient": False, "use_memory_efficient_attention": False}, 2048, 128, "dense", 128),
    ],
)
def test_attention(memory: dict[str, bool], window: int, block: int, kernel: str, used: int):
    resolved = job(memory=memory, model={"max_seq_len": window}, optimization={"block_size": block})
    assert (resolved.execution.attention, resolved.execution.attention_block) == (kernel, used)


@pytest.mark.parametrize(("asked", "remat"), [(True, "full"), (False, "none")])
def test_gradient_checkpointing(asked: bool, remat: str):
    assert job(memory={"gradient_checkpointing": asked}).execution.remat == remat


@pytest.mark.parametrize(
    ("vocabulary", "batch", "window", "chunk"),
    [(131_072, 8, 2048, 512), (32_000, 8, 2048, 2048), (512, 1, 64, 64), (512, 3, 100, 256), (4_194_304, 8, 2048, 16)],
)
def test_loss_chunks_keep_the_logits_small(vocabulary: int, batch: int, window: int, chunk: int):
    resolved = job(model={"vocab_size": vocabulary, "max_seq_len": window}, training={"batch_size": batch})
    assert resolved.execution.loss_chunk_tokens == chunk
    assert chunk * vocabulary <= 64 * 2**20


@pytest.mark.parametrize(
    ("tpu", "shard", "axes"),
    [
        ({}, True, ["data"]),
        ({}, False, []),
        ({"device_strategy": "fsdp"}, True, ["fsdp"]),
        ({"mesh_shape": {"data": 2, "fsdp": 4}}, True, ["fsdp"]),
        ({"tpu_cores": 1}, True, []),
        ({"num_slices": 2, "tpu_topology": "2x2x2"}, True, []),
    ],
)
def test_where_weights_are_split(tpu: dict[str, Any], shard: bool, axes: list[str]):
    resolved = job(tpu=tpu, optimization={"shard_weights": shard})
    assert resolved.execution.weight_axes == axes
    assert why(resolved, "execution.weight_axes").effective == axes


def test_batch_size_is_per_device():
    resolved = job(
        training={"batch_size": 8, "grad_accum_steps": 4}, model={"max_seq_len": 2048}, tpu={"mesh_shape": {"model": 4}}
    )
    assert resolved.batch == Batch(
        sequences_per_micro_batch=64, accumulation=4, sequences_per_step=256, tokens_per_step=524_288
    )
    assert "8 x 8 devices = 64 sequences" in why(resolved, "training.batch_size").why


@pytest.mark.parametrize(
    ("model", "count"),
    [
        ({}, 131_072 * 768 + 24 * (4 * 768 * 768 + 2 * 768 * 3072 + 2 * 768) + 768),
        ({"tie_embeddings": False}, 2 * 131_072 * 768 + 24 * (4 * 768 * 768 + 2 * 768 * 3072 + 2 * 768) + 768),
        (
            {
                "vocab_size": 32000,
                "hidden_dim": 4096,
                "num_layers": 32,
                "num_heads": 32,
                "num_kv_heads": 8,
                "head_dim": 128,
            }
            | {"mlp_dim": 14336, "activation": "swiglu", "tie_embeddings": False},
            7_241_732_096,  # Mistral 7B, whose shape this is
        ),
    ],
)
def test_parameters(model: dict[str, Any], count: int):
    assert job(model=model).parameters == count


def test_distillation_is_valid_and_not_launched():
    resolved = job(distillation={"teacher_model": "gemma-2b"})
    (blocker,) = resolved.blockers
    assert (blocker.code, blocker.pointer) == ("distillation-not-in-this-release", "/distillation")
    assert "gemma-2b" in blocker.message
    assert why(resolved, "distillation").requested == {"teacher_model": "gemma-2b"}
    assert job().blockers == []


def test_what_was_asked_is_kept_verbatim():
    document = {"training": {"max_steps": 100}, "tpu": {"mesh_shape": {"data": 8}}, "run": {"labels": {"team": "x"}}}
    resolved = job(**document)
    assert resolved.requested == document
    assert "warmup_steps" not in resolved.requested["training"]
