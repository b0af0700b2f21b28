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
        (
            "fp8-without-dynamic-scale",
            {"optimization": {"use_dynamic_scale": False, "low_precision": "fp8"}},
        ),
        ("no-mixed-precision", {"optimization": {"mixed_precision": False}}),
        ("unaligned-block-size", {"optimization": {"block_size": 100, "attention": "blockwise"}}),
        ("no-attention-kernel", {"model": {"head_dim": 48}}),
        (
            "vocabulary-not-split",
            {
                "model": {"vocab_size": 1152, "num_heads": 256, "max_seq_len": 128},
                "tpu": {"mesh_shape": {"model": 256}},
            },
        ),
        ("moments-stand-still", {"training": {"optimizer": {"state_dtype": "bfloat16", "beta2": 0.999}}}),
        ("tokens-of-another-model", {"checkpoint": {"init_from": "llama"}}),
        ("unaligned-vocabulary", {"model": {"vocab_size": 50257}}),
        ("demo-corpus", {"data": {"train": ["builtin:python"]}}),
        ("demo-corpus", {"data": {"train": [{"name": "demo", "files": ["builtin:python"]}]}}),
        ("no-evaluation", {"logging": {"eval_every": 0}}),
        ("no-evaluation", {"logging": {"eval_every": 600_000}}),
        ("rare-checkpoints", {"logging": {"save_every": 0}}),
        ("rare-checkpoints", {"logging": {"save_every": 300_000}}),
        ("best-checkpoints-unknown", {"checkpoint": {"keep_best": 2}, "logging": {"save_every": 2500}}),
        ("old-accelerator", {"tpu": {"accelerator": "v3"}}),
    ],
)
def test_a_practice(code: str, sections: dict[str, Any]):
    assert codes(**sections) == {code}


@pytest.mark.parametrize("code", ["no-mixed-precision", "unaligned-block-size", "unaligned-vocabulary", "demo-corpus"])
def test_a_rehearsal_needs_no_advice_on_hardware(code: str):
    sections: dict[str, Any] = {
        "optimization": {"mixed_precision": False, "block_size": 100, "attention": "blockwise"},
        "model": {"vocab_size": 50257},
        "data": {"train": ["builtin:python"]},
    }
    assert code in codes("tpu", **sections)
    assert codes("cpu", **sections) == set()


def test_a_small_model_may_learn_fast():
    tiny = {"vocab_size": 512, "hidden_dim": 128, "num_layers": 2}
    assert "high-learning-rate" not in codes(model=tiny, training={"learning_rate": 0.01})
    assert "high-learning-rate" in codes(model=tiny, training={"learning_rate": 0.1})
