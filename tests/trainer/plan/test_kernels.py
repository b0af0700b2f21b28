"""Kernels' schedules: loops, branches, and how often they run."""

import re
from pathlib import Path

import pytest

from tests.trainer.plan.programs import DATA, V5E, module_of
from trainer.plan.bundles import Region, read_bundles
from trainer.plan.hlo import Operation
from trainer.plan.kernels import Kernels, SplashGrid, read_dump

SCHEDULE = (DATA / "kernel.bundles.txt").read_text()


def no_rule(name: str, schedule: str) -> int | None:
    return None


def tree(region: Region) -> tuple:
    return (region.kind, region.bundles, region.trips, [tree(inner) for inner in region.inner])


def test_a_schedule_is_a_tree_of_loops_and_branches():
    to_the_grid_index: tuple = ("loop", 64, None, [])
    twice_nested = ("loop", 74, 4, [("branch", 64, 1, [to_the_grid_index])])
    on_the_first: tuple = ("branch", 26, 1, [])
    step = ("branch", 151, 1, [twice_nested, on_the_first])
    # 26 rounds: 3 x 8 steps, and one more at either end for the copies.
    assert tree(read_bundles(SCHEDULE)) == ("kernel", 216, 1, [("loop", 196, 24, [step])])


def test_no_bundle_is_lost():
    kernel = read_bundles(SCHEDULE)
    assert kernel.bundles == len(re.findall(r"^ *(?:0x|0 )", SCHEDULE, re.MULTILINE))
    assert kernel.cycles(lambda region: 1) == kernel.bundles
    assert sum(region.own for region in kernel.regions()) == kernel.bundles


def test_cycles_are_bundles_by_how_often_they_run():
    kernel = read_bundles(SCHEDULE)
    # A loop up to the grid index + 1, over 8 steps: 4.5 on average.
    cycles = kernel.cycles(lambda region: 4.5 if region.trips is None else region.trips)
    assert cycles == (216 - 196) + 24 * ((196 - 74 - 0) + 4 * (74 - 64 + 4.5 * 64))


def test_a_counter_that_was_spilled_still_ends():
    # Only the exit test's comment is left.
    spilled = re.sub(r"%s19_s19 = sadd[^}]*?(?=  ;;| })", "work", SCHEDULE)
    assert spilled != SCHEDULE
    assert tree(read_bundles(spilled)) == tree(read_bundles(SCHEDULE))


def test_other_text_is_refused():
    with pytest.raises(ValueError, match="not the text of a final schedule"):
        read_bundles("hello")


def call(name: str, layout: str = "", attributes: str = "") -> Operation:
    line = f'  ROOT %{name} = f32[8] custom-call(%a), custom_call_target="tpu_custom_call"'
    line += f", operand_layout_constraints={{{layout}}}" if layout else ""
    return module_of(line + attributes).computations["main"][name]


def test_a_kernel_without_a_rule_is_a_lower_bound_where_a_loop_is_open_and_says_so():
    kernels = Kernels({"mine.1": SCHEDULE}, V5E, no_rule, [])
    estimate = kernels(call("mine.1"))
    assert estimate is not None
    assert estimate.cycles == 20 + 24 * (122 + 4 * 74)
    assert [re.sub(r".*mine.1 ", "", note) for note in kernels.notes] == [
        "has no constant end: counted once, a lower bound",
        "is counted, also where only some are taken",
    ]


def test_declared_flops_are_the_least():
    attributes = ', backend_config={"custom_call_config":{"cost_estimate":{"flops":"126898000000"}}}'
    with_schedule = Kernels({"mine.1": SCHEDULE}, V5E, no_rule, [])(call("mine.1", attributes=attributes))
    alone = Kernels({}, V5E, no_rule, [])(call("mine.1", attributes=attributes))
    assert with_schedule is not None
    assert alone is not None
    assert with_schedule.cycles == alone.cycles == 1_000_000
    assert Kernels({}, V5E, no_rule, [])(call("mine.1")) is None


def test_equal_kernels_share_a_schedule_and_a_rule_comes_first():
    seen = []

    def rule(name: str, schedule: str) -> int | None:
        seen.append((name, schedule == SCHEDULE))
        return 77

    estimate = Kernels({"mine.1": SCHEDULE}, V5E, rule, [])(call("mine.12"))
    assert estimate is not None
    assert estimate.cycles == 77
    assert seen == [("mine.12", True)]


def test_a_rule_that_does_not_fit_is_named():
    def rule(name: str, schedule: str) -> int | None:
        raise ValueError("one loop, not 2")

    kernels = Kernels({"mine.1": SCHEDULE}, V5E, rule, [])
    assert kernels(call("mine.1")) is not None
    assert kernels.notes[0] == "the rule for kernel mine.1 does not fit it: one loop, not 2"


BLOCKS = r", x={\"block_q\": 512, \"block_kv\": 512, \"block_q_dq\": 256, \"block_kv_dq\": 512, "
BLOCKS += r"\"block_q_dkv\": 512, \"block_kv_dkv\": 1024}"


@pytest.mark.parametrize(
    ("name", "across", "grid"),
    [
        # Causal: row i of 4 sees i + 1 of 4 tiles.
        ("splash_mha_fwd_segmented_residuals.1", "s8[1,4,4]{2,1,0}", SplashGrid(4, 4, 10)),
        # Rows of 256 over tiles of 512: 1 1 2 2 3 3 4 4.
        ("splash_mha_dq_segmented_no_residuals.1", "s8[1,8,4]{2,1,0}", SplashGrid(8, 4, 20)),
        # Rows are key tiles: of 4 x 2 pairs, 2 of the first half of queries' second column are masked.
        ("splash_mha_dkv_segmented_no_residuals.1", "s8[1,4,2]{2,1,0}", SplashGrid(2, 4, 6)),
        # A window that leaves 2 tiles to a row.
        ("splash_mqa_fwd_segmented_residuals.1", "s8[1,4,2]{2,1,0}", SplashGrid(4, 2, 8)),
    ],
)
def test_the_grid_of_a_splash_kernel(name: str, across: str, grid: SplashGrid):
    heads = "bf16[8,12,2048,64]{3,2,1,0}, bf16[8,12,2048,64]{3,2,1,0}"
    assert SplashGrid.of(call(name, f"{across}, {across}, {heads}", BLOCKS)) == grid


def test_other_kernels_have_no_splash_grid():
    assert SplashGrid.of(call("flash_forward.1", "bf16[8,2048,768]{2,1,0}, bf16[8,2048,768]{2,1,0}", BLOCKS)) is None


def test_a_splash_kernels_branches_run_as_often_as_their_tiles():
    def branch(number: int, bundles: int) -> str:
        jump = f" 0x1   : > {{ sbr.rel (%p1) target = $region{number} }}\n" + " 0x1   :  {}\n" * 4
        return (
            jump + " 0x1   : > { work }\n" * bundles + f" 0x1 PF: > {{ work }} /* Start/End empty region {number} */\n"
        )

    schedule = (
        "     0   : { %s1 = smov.u32 0 }\n  0x1 LB: > { %s2 = sphi %s1, %s3 }\n"
        + branch(1, 100)
        + branch(2, 1000)
        + branch(3, 50)
        + "  0x9   : > { %s3 = sadd.s32 1, %s2  ;;  %p1 = scmp.ge.s32.totalorder %s3, 16 }\n"
    )
    heads = "bf16[1,1,2048,64]{3,2,1,0}, bf16[1,1,2048,64]{3,2,1,0}"
    splash = call("splash_mha_fwd_residuals.1", f"s8[1,4,4]{{2,1,0}}, {heads}", BLOCKS)
    estimate = Kernels({"splash_mha_fwd_residuals.1": schedule}, V5E, no_rule, [])(splash)
    assert estimate is not None
    common = 1 + 3 * 6 + 1
    assert estimate.cycles == 1 + 16 * common + 10 * 1000 + 4 * (100 + 50)


def test_only_the_programs_kernels_are_read_from_a_dump(tmp_path: Path):
    for name in ("17-mine.3-72-final_bundles.txt", "17-fusion-71-final_bundles.txt"):
        (tmp_path / name).write_text(SCHEDULE)
    (tmp_path / "17-mine.3-71-schedule-analysis_final_bundles.txt").write_text("x")
    module = module_of('  ROOT %mine.9 = f32[8] custom-call(%a), custom_call_target="tpu_custom_call"')
    assert read_dump(tmp_path, module) == {"mine.3": SCHEDULE}
