"""What runs for what was asked: precision, attention, loss chunks, sharding, batch; and what does not run."""

from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Batch, Decision, Platform, ResolvedJob, SiteDefaults


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
    low = compute == "bfloat16"
    assert resolved.precision.loss_scale == ("dynamic" if low else "none")
    assert resolved.effective.optimization.use_dynamic_scale is low
    assert resolved.effective.tpu.use_bfloat16 is low
    assert resolved.effective.optimization.mixed_precision is low
    if bfloat16 != mixed:
        on = "tpu.use_bfloat16" if bfloat16 else "optimization.mixed_precision"
        assert why(resolved, on).effective is False


def test_the_cache_in_fp8_says_what_it_saves():
    resolved = job(model={"head_dim": 64})
    assert resolved.effective.memory.kv_cache_fp8 is True
    assert "0.508 of bfloat16's bytes" in why(resolved, "memory.kv_cache_fp8").why  # 65 / 128
    wide = job(memory={"kv_cache_fp8": False})
    assert wide.effective.memory.kv_cache_fp8 is False
    assert "memory.kv_cache_fp8" not in {decision.setting for decision in wide.decisions}


def test_the_loss_is_scaled_only_where_it_helps():
    assert "a step whose gradients overflow" in why(job(), "precision.loss_scale").why
    assert job(optimization={"use_dynamic_scale": False}).precision.loss_scale == "none"
    float32 = job(optimization={"use_dynamic_scale": True, "mixed_precision": False})
    assert "nothing to scale" in why(float32, "optimization.use_dynamic_scale").why


def test_moments_may_be_bfloat16():
    assert job().precision.optimizer_state == "float32"
    low = job(training={"optimizer": {"state_dtype": "bfloat16"}})
    assert (low.precision.optimizer_state, low.precision.parameters) == ("bfloat16", "float32")


@pytest.mark.parametrize(
    ("setting", "document"),
    [
        ("logging.profile_every", {"logging": {"profile_every": 10}}),
        ("optimization.use_pjit", {"optimization": {"use_pjit": False}}),
        ("optimization.block_size", {"optimization": {"block_size": 64}, "model": {"max_seq_len": 32}}),
        ("training.decay_fraction", {"training": {"decay_fraction": 0.5}}),
        ("training.min_learning_rate_ratio", {"training": {"min_learning_rate_ratio": 0.5, "lr_schedule": "constant"}}),
        ("data.eval_fraction", {"data": {"eval": ["x.txt"], "eval_fraction": 0.1}}),
        ("checkpoint.keep_every", {"checkpoint": {"keep_every": 10}, "logging": {"save_every": 0}}),
        ("checkpoint.init_from", {"checkpoint": {"init_from": "llama", "restore": 10}}),
        ("optimization.weight_gather", {"optimization": {"weight_gather": "step", "shard_weights": False}}),
        ("model.vocab_size", {"model": {"vocab_size": 50257}, "tpu": {"mesh_shape": {"model": 2}}}),
        ("tpu.device_strategy", {"tpu": {"device_strategy": "fsdp", "mesh_shape": {"data": 8, "fsdp": 1}}}),
    ],
)
def test_a_setting_without_effect_has_a_decision(setting: str, document: dict[str, Any]):
    assert why(job(**document), setting).why


def test_pjit_is_not_optional():
    assert job(optimization={"use_pjit": False}).effective.optimization.use_pjit is True


@pytest.mark.parametrize(
    ("platform", "model", "batch", "mesh", "chunk"),
    [
        ("tpu", {}, 8, {}, 4096),
        ("tpu", {"vocab_size": 512, "max_seq_len": 64}, 1, {}, 64),
        ("tpu", {"vocab_size": 512, "max_seq_len": 100}, 3, {}, 256),
        # A quarter of v5e's 16 GiB holds 2**9 rows of 4 M words in bfloat16 and no more; eight devices split them.
        ("tpu", {"vocab_size": 4_194_304}, 8, {}, 512),
        ("tpu", {"vocab_size": 4_194_304}, 8, {"model": 8}, 4096),
        ("cpu", {}, 8, {}, 512),
        ("gpu", {"vocab_size": 32_000}, 8, {}, 512),
        ("cpu", {"vocab_size": 4_194_304}, 8, {}, 16),
    ],
)
def test_loss_chunks_keep_the_logits_small(
    platform: Platform, model: dict[str, Any], batch: int, mesh: dict[str, int], chunk: int
):
    tpu = {"accelerator": "v5e", "tpu_topology": "2x4"} | ({"mesh_shape": mesh} if mesh else {})
    document = {"model": model, "training": {"batch_size": batch}, "tpu": tpu}
    resolved = resolve(check_config(document), SiteDefaults(platform=platform))
    assert resolved.execution.loss_chunk_tokens == chunk


@pytest.mark.parametrize(
    ("tpu", "shard", "axes"),
    [
        ({}, True, ["data"]),
        ({}, False, []),
        ({"device_strategy": "fsdp"}, True, ["fsdp"]),
        ({"mesh_shape": {"data": 2, "fsdp": 4}}, True, ["fsdp"]),
        ({"tpu_cores": 1}, True, []),
        ({"num_slices": 2, "tpu_topology": "2x2x2"}, True, []),
        ({"tpu_cores": 64}, True, ["data"]),
        ({"tpu_cores": 512}, True, []),  # 768 does not divide by 512
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
        (
            {"family": "qwen2", "vocab_size": 151_936, "hidden_dim": 896, "num_layers": 24, "num_heads": 14}
            | {"num_kv_heads": 2, "mlp_dim": 4864, "tie_embeddings": True},
            494_032_768,  # Qwen2 0.5B, which has biases
        ),
        (
            {"family": "qwen3", "vocab_size": 151_936, "hidden_dim": 1024, "num_layers": 28, "num_heads": 16}
            | {"num_kv_heads": 8, "head_dim": 128, "mlp_dim": 3072, "tie_embeddings": True},
            596_049_920,  # Qwen3 0.6B, which normalizes queries and keys
        ),
        (
            {"family": "gemma2", "vocab_size": 256_000, "hidden_dim": 2304, "num_layers": 26, "num_heads": 8}
            | {"num_kv_heads": 4, "head_dim": 256, "mlp_dim": 9216},
            2_614_341_888,  # Gemma 2 2B, which has four norms a layer and a gate
        ),
    ],
)
def test_parameters(model: dict[str, Any], count: int):
    assert job(model=model).parameters == count


def test_what_was_asked_is_kept_verbatim():
    document = {"training": {"max_steps": 100}, "tpu": {"mesh_shape": {"data": 8}}, "run": {"labels": {"team": "x"}}}
    resolved = job(**document)
    assert resolved.requested == document
    assert "warmup_steps" not in resolved.requested["training"]
