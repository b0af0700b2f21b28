"""The guide's best practices, as warnings that appear when they should and only then."""

from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Platform, SiteDefaults

CALM: dict[str, Any] = {"training": {"warmup_steps": 5000}, "data": {"train": ["corpus/*.txt"]}}
"""A config about which there is nothing to say."""
LARGE = {"hidden_dim": 4096, "num_heads": 32, "head_dim": 128, "mlp_dim": 16384, "num_layers": 32}


def codes(platform: Platform = "tpu", **sections: dict[str, Any]) -> set[str]:
    document = {name: CALM.get(name, {}) | sections.get(name, {}) for name in {*CALM, *sections}}
    job = resolve(check_config(document), SiteDefaults(platform=platform))
    for notice in job.warnings:
        assert notice.pointer
        assert notice.message.endswith(".")
        assert notice.fix
    return {notice.code for notice in job.warnings}


def test_nothing_to_say():
    assert codes() == set()


@pytest.mark.parametrize(
    ("code", "sections"),
    [
        ("short-warmup", {"training": {"warmup_steps": 4999}}),
        ("high-learning-rate", {"training": {"learning_rate": 0.01}}),
        ("no-gradient-clipping", {"training": {"max_grad_norm": 0.0}}),
        ("fp8-without-dynamic-scale", {"optimization": {"use_dynamic_scale": False}}),
        ("no-mixed-precision", {"optimization": {"mixed_precision": False}}),
        ("unaligned-block-size", {"optimization": {"block_size": 100}}),
        ("unaligned-vocabulary", {"model": {"vocab_size": 50257}}),
        ("demo-corpus", {"data": {"train": ["builtin:python"]}}),
        ("no-evaluation", {"logging": {"eval_every": 0}}),
        ("no-evaluation", {"logging": {"eval_every": 600_000}}),
        ("rare-checkpoints", {"logging": {"save_every": 0}}),
        ("rare-checkpoints", {"logging": {"save_every": 300_000}}),
        ("old-accelerator", {"tpu": {"accelerator": "v3"}}),
    ],
)
def test_a_practice(code: str, sections: dict[str, Any]):
    assert codes(**sections) == {code}


@pytest.mark.parametrize("code", ["no-mixed-precision", "unaligned-block-size", "unaligned-vocabulary", "demo-corpus"])
def test_a_rehearsal_needs_no_advice_on_hardware(code: str):
    sections: dict[str, Any] = {
        "optimization": {"mixed_precision": False, "block_size": 100},
        "model": {"vocab_size": 50257},
        "data": {"train": ["builtin:python"]},
    }
    assert code in codes("tpu", **sections)
    assert codes("cpu", **sections) == set()


def test_a_small_model_may_learn_fast():
    tiny = {"vocab_size": 512, "hidden_dim": 128, "num_layers": 2}
    assert "high-learning-rate" not in codes(model=tiny, training={"learning_rate": 0.01})
    assert "high-learning-rate" in codes(model=tiny, training={"learning_rate": 0.1})


def memory_fix(**sections: Any) -> str:
    job = resolve(check_config(sections))
    return next((str(notice.fix) for notice in job.warnings if notice.code == "memory-may-not-fit"), "fits")


def test_memory():
    v5e = {"accelerator": "v5e", "tpu_topology": "2x4"}
    assert memory_fix(tpu=v5e) == "fits"
    assert "memory.gradient_checkpointing" in memory_fix(tpu=v5e, memory={"gradient_checkpointing": False})
    assert memory_fix(tpu={"accelerator": "v5p"}, memory={"gradient_checkpointing": False}) == "fits"
    assert "split the weights" in memory_fix(tpu=v5e, model=LARGE, optimization={"shard_weights": False})
    assert "larger slice" in memory_fix(tpu=v5e, model=LARGE)
    assert memory_fix(tpu={"accelerator": "v5p", "tpu_topology": "4x4x4"}, model=LARGE) == "fits"
