"""Our own kernels: the rule that weighs their schedules by the job's masks."""

from typing import Any

import pytest

from tests.trainer.plan.programs import DATA
from trainer.attention.flash.tiles import plan
from trainer.attention.flash.work import Kernel, tile_work
from trainer.attention.pattern import Pattern
from trainer.plan.flash import flash_rule
from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob


def job(**model: Any) -> ResolvedJob:
    sizes = {"hidden_dim": 256, "num_heads": 4, "head_dim": 64, "mlp_dim": 512, "max_seq_len": 4096, "num_layers": 4}
    tpu = {"accelerator": "v5e", "tpu_topology": "2x4"}
    config = {"model": sizes | model, "tpu": tpu, "sequence": {"max_length": 4096}, "training": {"batch_size": 2}}
    return resolve(check_config(config))


def schedule(first: int, second: int) -> str:
    """A grid of 10 steps, in each of which two loops of so many bundles run until a value says stop."""

    def loop(bundles: int) -> str:
        return "  0x3 LB: >> { work }\n" + "  0x4   : >> { work }\n" * (bundles - 1) + "  0x5   : > { work }\n"

    return (
        "     0   : { %s1 = smov.u32 0 }\n  0x1 LB: > { %s2 = sphi %s1, %s3 }\n"
        + loop(first)
        + loop(second)
        + "  0x9   : > { %s3 = sadd.s32 1, %s2  ;;  %p1 = scmp.ge.s32.totalorder %s3, 10 }\n"
    )


def trips(kernel: Kernel, window: int | None) -> tuple[float, float]:
    pattern = Pattern(heads=4, kv_heads=4, head_dim=64, scale=0.125, window=window)
    how = plan(pattern, 4096, 2, "v5e")
    assert how is not None
    tile = how.tiles.forward if kernel == "flash_forward" else how.tiles.backward
    return tile_work(pattern, 2, 4096, tile, kernel).trips


@pytest.mark.parametrize("kernel", ["flash_forward", "flash_backward"])
def test_open_loops_run_as_often_as_the_mask_says(kernel: Kernel):
    one, two = trips(kernel, None)
    assert one + two > 0
    # Five bundles of the kernel and its grid stand outside the two loops.
    expected = 1 + 10 * (2 + 2 + 100 * one + 1000 * two)
    assert flash_rule(job())(f"{kernel}.3", schedule(100, 1000)) == pytest.approx(expected, abs=1)  # rounded


@pytest.mark.parametrize("kernel", ["flash_forward", "flash_backward"])
def test_kinds_of_layers_are_averaged(kernel: Kernel):
    mixed = job(sliding_window=512, layer_pattern=["sliding", "sliding", "sliding", "full"])
    narrow, whole = (sum(a * b for a, b in zip((100, 1000), trips(kernel, w), strict=True)) for w in (512, None))
    expected = 1 + 10 * (4 + (3 * narrow + whole) / 4)
    assert flash_rule(mixed)(kernel, schedule(100, 1000)) == pytest.approx(expected, abs=1)  # rounded twice


def test_other_kernels_are_not_its_business():
    assert flash_rule(job())("splash_mha_fwd.1", schedule(100, 1000)) is None


def test_a_schedule_of_another_form_is_refused():
    with pytest.raises(ValueError, match="loops of unknown length"):
        flash_rule(job())("flash_forward.1", (DATA / "kernel.bundles.txt").read_text())
