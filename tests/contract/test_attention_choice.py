"""Which attention runs: the fastest kind that covers the job, or the one that the config names."""

from typing import Any

import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.resolution.attention import COVERAGE, FASTEST, AttentionWork, obstacle
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Platform, ResolvedJob, SiteDefaults


def job(platform: Platform = "tpu", **document: Any) -> ResolvedJob:
    return resolve(check_config(document), SiteDefaults(platform=platform))


def why(resolved: ResolvedJob, setting: str = "execution.attention") -> str:
    (found,) = (entry.why for entry in resolved.decisions if entry.setting == setting)
    return found


@pytest.mark.parametrize(
    ("platform", "document", "kind"),
    [
        ("tpu", {}, "flash"),
        ("tpu", {"tpu": {"accelerator": "v4"}}, "flash"),
        ("tpu", {"tpu": {"accelerator": "v3"}}, "blockwise"),
        ("tpu", {"model": {"head_dim": 256}}, "flash"),
        ("tpu", {"model": {"head_dim": 192}}, "splash"),
        ("tpu", {"model": {"head_dim": 48}}, "blockwise"),
        ("tpu", {"model": {"max_seq_len": 2000}}, "blockwise"),
        ("tpu", {"model": {"max_seq_len": 8192}}, "flash"),
        ("tpu", {"model": {"head_dim": 32}}, "flash"),
        ("tpu", {"model": {"max_seq_len": 8192, "head_dim": 256}}, "splash"),
        ("tpu", {"model": {"max_seq_len": 16384}}, "splash"),
        ("tpu", {"model": {"max_seq_len": 16384}, "tpu": {"accelerator": "v5e"}}, "flash"),
        ("tpu", {"model": {"max_seq_len": 16384}, "tpu": {"accelerator": "v5e", "use_bfloat16": False}}, "splash"),
        ("tpu", {"model": {"max_seq_len": 4096}, "tpu": {"accelerator": "v4"}}, "splash"),
        ("tpu", {"model": {"attention_dropout_rate": 0.1}}, "blockwise"),
        ("tpu", {"model": {"attention_softcap": 50.0, "sliding_window": 64}}, "flash"),
        ("tpu", {"tpu": {"mesh_shape": {"sequence": 2}}}, "blockwise"),
        ("gpu", {}, "cudnn"),
        ("gpu", {"tpu": {"use_bfloat16": False}}, "blockwise"),
        ("gpu", {"model": {"head_dim": 256}}, "blockwise"),
        ("gpu", {"model": {"head_dim": 60}}, "blockwise"),
        ("gpu", {"model": {"attention_softcap": 50.0}}, "blockwise"),
        ("gpu", {"model": {"attention_dropout_rate": 0.1}}, "blockwise"),
        ("cpu", {}, "blockwise"),
        ("cpu", {"model": {"max_seq_len": 256}}, "dense"),
        ("cpu", {"model": {"max_seq_len": 256}, "optimization": {"block_size": 128}}, "blockwise"),
    ],
)
def test_what_auto_takes(platform: Platform, document: dict[str, Any], kind: str):
    resolved = job(platform, **document)
    assert resolved.execution.attention == kind
    assert resolved.effective.optimization.attention == "auto"
    for faster in FASTEST[platform]:
        if faster == kind or kind == "dense":
            break
        assert f"not {faster}: " in why(resolved)


@pytest.mark.parametrize(("efficient", "other", "kind"), [(True, False, "flash"), (False, False, "dense")])
def test_memory_efficient_attention_has_two_names(efficient: bool, other: bool, kind: str):
    memory = {"attention_memory_efficient": efficient, "use_memory_efficient_attention": other}
    assert job(memory=memory).execution.attention == kind


@pytest.mark.parametrize(
    ("platform", "asked", "document", "runs", "words"),
    [
        ("cpu", "flash", {}, "blockwise", "flash cannot run this job: it is a TPU kernel, and this runs on CPU"),
        ("tpu", "cudnn", {}, "flash", "cudnn cannot run this job: it is a GPU library, and this runs on TPU"),
        ("tpu", "splash", {"tpu": {"accelerator": "v3"}}, "blockwise", "TPU v3 cannot run its kernel"),
        ("tpu", "flash", {"model": {"head_dim": 192}}, "splash", "here it is 192"),
        ("tpu", "flash", {"model": {"max_seq_len": 192}}, "blockwise", "192 is no multiple of 128"),
        ("cpu", "splash", {"model": {"max_seq_len": 64}}, "dense", "it is a TPU kernel"),
    ],
)
def test_a_kind_that_cannot_run_is_answered(
    platform: Platform, asked: str, document: dict[str, Any], runs: str, words: str
):
    resolved = job(platform, **document, optimization={"attention": asked})
    assert resolved.execution.attention == resolved.effective.optimization.attention == runs
    assert words in why(resolved, "optimization.attention")


@pytest.mark.parametrize("asked", ["splash", "blockwise", "dense"])
def test_a_kind_that_can_run_is_taken(asked: str):
    switches = {"attention_memory_efficient": False, "use_memory_efficient_attention": False}
    resolved = job(optimization={"attention": asked}, memory=switches)
    assert resolved.execution.attention == asked
    answered = {decision.setting for decision in resolved.decisions} & {f"memory.{name}" for name in switches}
    assert bool(answered) == (asked != "dense")


@pytest.mark.parametrize(
    ("platform", "document", "block", "effective"),
    [
        ("cpu", {}, 256, 256),
        ("cpu", {"optimization": {"block_size": 128}}, 128, 128),
        ("cpu", {"model": {"max_seq_len": 64}}, 64, 256),
        ("tpu", {"tpu": {"accelerator": "v3"}}, 128, 128),
    ],
)
def test_the_block(platform: Platform, document: dict[str, Any], block: int, effective: int):
    resolved = job(platform, **document)
    assert resolved.execution.attention_block == block
    assert resolved.effective.optimization.block_size == effective
    if "optimization" not in document and platform == "cpu":
        assert "measured fastest" in why(resolved, "optimization.block_size")


def test_the_table_covers_every_kind_and_blockwise_covers_everything():
    assert not COVERAGE["blockwise"]
    assert all(kinds[-1] == "blockwise" for kinds in FASTEST.values())
    hard = AttentionWork("cpu", "v3", "float32", 7, 33, 1.0, 0.5, 2)
    assert {kind for kind in COVERAGE if obstacle(kind, hard) is None} == {"blockwise", "dense"}
