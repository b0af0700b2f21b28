"""Eight-bit products: which chip computes what, for what was asked, and what it says about it."""

from typing import Any

import pytest

from vishwamai.contract.accelerators import generations
from vishwamai.contract.load import check_config
from vishwamai.contract.low_precision import NATIVE_FP8, measured
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Decision, Platform, ResolvedJob, SiteDefaults

WIDE = {"hidden_dim": 8192, "num_heads": 64, "head_dim": 128, "mlp_dim": 32768}
NAMES = [generation.name for generation in generations()]


def job(
    accelerator: str, platform: Platform = "tpu", model: dict[str, Any] | None = None, **optimization: Any
) -> ResolvedJob:
    document = {"model": WIDE | (model or {}), "tpu": {"accelerator": accelerator}, "optimization": optimization}
    return resolve(check_config(document), SiteDefaults(platform=platform))


def why(resolved: ResolvedJob, setting: str) -> Decision:
    (found,) = (entry for entry in resolved.decisions if entry.setting == setting)
    return found


def settings(resolved: ResolvedJob) -> tuple[bool, str, str, str, str]:
    asked, runs = resolved.effective.optimization, resolved.precision
    return asked.use_fp8, asked.low_precision, runs.products, runs.scaling, runs.loss_scale


FP8 = (True, "fp8", "fp8", "tensor", "dynamic")
INT8 = (False, "int8", "int8", "token", "dynamic")
PLAIN = (False, "none", "compute", "none", "dynamic")


@pytest.mark.parametrize("platform", ["tpu", "cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_each_generation_has_its_recipes_and_the_cpu_rehearses_them(name: str, platform: Platform):
    default = FP8 if name == "tpu7x" else PLAIN
    assert settings(job(name, platform)) == default
    assert settings(job(name, platform, use_fp8=False)) == PLAIN
    assert settings(job(name, platform, low_precision="none")) == PLAIN
    assert settings(job(name, platform, low_precision="fp8")) == FP8
    assert settings(job(name, platform, low_precision="fp8", use_fp8=False)) == FP8
    int8 = INT8 if name in ("v5e", "v5p", "v6e") else PLAIN
    assert settings(job(name, platform, low_precision="int8")) == int8


def test_a_gpu_has_fp8_and_no_int8():
    assert settings(job("v5e", "gpu")) == FP8
    assert settings(job("v5e", "gpu", low_precision="int8")) == PLAIN
    assert "a GPU without FP8 units" in why(job("v5e", "gpu"), "optimization.low_precision").why


@pytest.mark.parametrize("name", NAMES)
def test_decisions_say_what_runs_and_what_it_costs(name: str):
    decided = why(job(name, use_fp8=True), "optimization.low_precision")
    assert str(measured(name, "fp8")) in decided.why
    if name != "tpu7x":
        use_fp8 = why(job(name, use_fp8=True), "optimization.use_fp8")
        assert (use_fp8.requested, use_fp8.effective, use_fp8.why) == (True, False, decided.why)
        assert "no FP8 units" in decided.why
    forced = why(job(name, low_precision="int8"), "optimization.low_precision")
    assert forced.requested == "int8"
    assert str(measured(name, "int8")) in forced.why


def test_the_measured_ratios_agree_with_the_units():
    assert {name for name in NAMES if measured(name, "fp8").ratio < 0.9} == NATIVE_FP8
    assert measured("tpu7x", "fp8").ratio <= 0.55


@pytest.mark.parametrize(("width", "nearest"), [(64, 1024), (1024, 1024), (8191, 4096), (8192, 8192), (65536, 8192)])
def test_the_ratio_is_that_of_a_width_that_was_measured(width: int, nearest: int):
    assert measured("tpu7x", "fp8", width).width == nearest
    assert str(measured("tpu7x", "fp8", width)).endswith(f"of width {nearest}")


def test_narrow_layers_are_left_in_bfloat16_unless_fp8_is_asked_for_by_name():
    narrow = {"hidden_dim": 1024, "num_heads": 8, "mlp_dim": 4096}
    auto = job("tpu7x", model=narrow)
    assert auto.precision.products == "compute"
    assert "layers 1024 wide do not repay" in why(auto, "optimization.use_fp8").why
    assert job("tpu7x", model=narrow, low_precision="fp8").precision.products == "fp8"


def test_the_cpu_says_that_it_only_rehearses():
    assert "not its speed" in why(job("tpu7x", "cpu"), "optimization.low_precision").why
    assert "not its speed" not in why(job("tpu7x", "tpu"), "optimization.low_precision").why


@pytest.mark.parametrize(
    ("skip", "effective", "parts"),
    [
        (["embedding", "head", "norms"], ["embedding", "head", "norms"], ["attention", "mlp"]),
        ([], ["embedding", "head", "norms"], ["attention", "mlp"]),
        (["attention"], ["embedding", "head", "norms", "attention"], ["mlp"]),
        (["norms", "mlp", "mlp"], ["embedding", "head", "norms", "mlp"], ["attention"]),
    ],
)
def test_parts_may_stay_out(skip: list[str], effective: list[str], parts: list[str]):
    resolved = job("tpu7x", low_precision_skip=skip)
    assert resolved.precision.products_in == parts
    assert resolved.effective.optimization.low_precision_skip == effective
    if skip != effective:
        assert why(resolved, "optimization.low_precision_skip").requested == skip


def test_with_both_parts_out_nothing_is_left():
    resolved = job("tpu7x", low_precision="fp8", low_precision_skip=["attention", "mlp"])
    assert (resolved.precision.products, resolved.precision.products_in) == ("compute", [])
    assert "attention and mlp" in why(resolved, "optimization.use_fp8").why


def test_float32_has_eight_bits_only_when_they_are_asked_for_by_name():
    wide: dict[str, Any] = {"mixed_precision": False}
    auto = job("tpu7x", **wide)
    assert (auto.precision.compute, auto.precision.products, auto.precision.loss_scale) == (
        "float32",
        "compute",
        "none",
    )
    forced = job("tpu7x", low_precision="fp8", **wide)
    assert (forced.precision.compute, forced.precision.products) == ("float32", "fp8")
    assert forced.precision.loss_scale == "dynamic"  # for the sake of e5m2


def test_an_unknown_part_is_refused():
    with pytest.raises(InvalidConfig):
        check_config({"optimization": {"low_precision_skip": ["biases"]}})
