"""What runs where: a GPU without FP8 units computes without FP8, and every report says what is multiplied."""

from types import SimpleNamespace
from typing import Any

import pytest

from trainer.precision import products_report, with_available_products
from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Platform, SiteDefaults


def job(accelerator: str = "tpu7x", platform: Platform = "gpu", **optimization: Any):
    wide = {"hidden_dim": 8192, "num_heads": 64, "head_dim": 128, "mlp_dim": 32768}
    document = {"model": wide, "tpu": {"accelerator": accelerator}, "optimization": optimization}
    return resolve(check_config(document), SiteDefaults(platform=platform))


def device(platform: str, capability: str = "") -> Any:
    return SimpleNamespace(platform=platform, device_kind="a device", compute_capability=capability)


@pytest.mark.parametrize(("capability", "products"), [("8.0", "compute"), ("9.0", "fp8"), ("10.0", "fp8")])
def test_a_gpu_computes_in_fp8_from_hopper_on(capability, products, caplog):
    gpu = device("gpu", capability)
    runs = with_available_products(job(), gpu)
    assert runs.precision.products == products
    assert ("has no FP8 units" in caplog.text) == (products == "compute")
    report = products_report(runs, gpu)
    assert report["operands"] == ("bfloat16" if products == "compute" else "float8_e4m3fn")


def test_fp8_that_was_asked_for_by_name_is_kept():
    runs = with_available_products(job(low_precision="fp8"), device("gpu", "8.0"))
    assert runs.precision.products == "fp8"
    assert products_report(runs, device("gpu", "8.0"))["units"].startswith("none")


@pytest.mark.parametrize(
    ("accelerator", "asked", "on", "units"),
    [
        ("tpu7x", "fp8", "tpu", "native"),
        ("tpu7x", "fp8", "cpu", "none, the numbers are converted"),
        ("v6e", "fp8", "tpu", "none, the numbers are converted"),
        ("v6e", "int8", "tpu", "native"),
    ],
)
def test_the_report_names_formats_and_units(accelerator, asked, on, units):
    resolved = job(accelerator, on, low_precision=asked)
    assert with_available_products(resolved, device(on)) is resolved
    report = products_report(resolved, device(on))
    names = ("float8_e4m3fn", "float8_e5m2") if asked == "fp8" else ("int8", "int8")
    assert (report["operands"], report["gradients"], report["units"]) == (*names, units)
    assert report["in"] == ["attention", "mlp"]
