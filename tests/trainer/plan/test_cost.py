"""What programs cost: loops multiplied, dearest branches, what runs beside, what has no estimate."""

from collections import Counter

import pytest

from tests.trainer.plan.programs import V5E, cost, module_of, program
from trainer.plan.collectives import collective_bytes, group_size, ring_sides, torus_axes
from trainer.plan.cost import Costs, KernelEstimate, cost_of
from trainer.plan.hlo import parse_hlo
from trainer.plan.rates import Rates
from vishwamai.contract.accelerators import generations, slice_for, slices


def by_kind(costs: Costs) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for row in costs.rows:
        sums[row.kind] += row.cycles
    return dict(sums)


def test_a_product_takes_what_the_compiler_says():
    assert by_kind(cost(program("matmul"))) == {"matmul": 1083068, "copy_async": int(32 * 2**20 / (8.2e11 / 1.5e9))}


def test_loops_are_multiplied_and_the_dearest_branch_counts():
    costs = cost(program("nested_loops"))
    products = {row.name: (row.each, row.times) for row in costs.rows if row.kind == "matmul"}
    assert products == {"fusion.21": (27404, 3 * 7), "fusion.9": (27404, 1), "fusion.7": (27404, 1)}
    # The other branch's addition is not in it.
    assert {row.name for row in costs.rows if row.kind == "other"} == {"slice.5"}
    assert costs.notes == []


def test_asynchronous_collectives_are_kept_apart():
    rows = {row.kind: row for row in cost(program("collectives")).rows}
    link = 2 * 4.5e10 / 1.5e9
    assert rows["collective"].moved_bytes == 2 * 7 / 8 * 4 * 2**20
    assert rows["collective"].cycles == int(2 * 7 / 8 * 4 * 2**20 / link)
    assert rows["collective_async"].moved_bytes == 7 / 8 * 8 * 2**20


LOOP = """%cond (p: (s32[], s32[])) -> pred[] {
  %p = (s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=1
  ROOT %c = pred[] compare(%i, %n), direction=LT
}
%body (p: (s32[], s32[])) -> (s32[], s32[]) {
  %p = (s32[], s32[]) parameter(0)
  ROOT %work = (s32[], s32[]) fusion(%p), kind=kLoop, calls=%nothing, backend_config={"estimated_cycles":"100"}
}
"""
ENDLESS = (
    "  %start = (s32[], s32[]) parameter(0)\n  ROOT %loop = (s32[], s32[]) while(%start), condition=%cond, body=%body"
)


def test_a_loop_of_unknown_length_counts_once_and_says_so():
    costs = cost(module_of(ENDLESS, computations=LOOP))
    assert sum(row.cycles for row in costs.rows) == 100
    assert costs.notes == ["the trips of loop loop are not in the program: counted once"]


def test_what_runs_beside_makes_no_branch_dearer():
    branches = """%beside (p: f32[8]) -> f32[8] {
  %p = f32[8] parameter(0)
  ROOT %s = (f32[1048576], f32[1048576], u32[]) copy-start(%p)
}
%work (p: f32[8]) -> f32[8] {
  %p = f32[8] parameter(0)
  ROOT %w = f32[8] fusion(%p), kind=kLoop, calls=%none, backend_config={"estimated_cycles":"3"}
}
"""
    body = "  ROOT %c = f32[8] conditional(%i, %a, %a), branch_computations={%beside, %work}"
    assert by_kind(cost(module_of(body, computations=branches))) == {"other": 3}


def test_a_rule_may_know_a_loops_length():
    costs = cost_of(module_of(ENDLESS, computations=LOOP), V5E, lambda op: None, lambda loop: 8.5)
    assert sum(row.cycles for row in costs.rows) == 850
    assert costs.notes == []


def test_what_has_no_estimate_is_counted_by_its_bytes():
    rows = cost(
        module_of(
            """  %big = f32[1024,1024] parameter(0)
  %update = f32[512,1024] parameter(1)
  %gather = bf16[4096,1024] gather(%big, %big), offset_dims={1}
  %small = bf16[16] gather(%big, %big), offset_dims={1}
  %in_place = f32[1024,1024] dynamic-update-slice(%big, %update, %big)
  ROOT %send = (f32[512,1024], u32[], token[]) send(%update), frontend_attributes={handler="xla_megascale_runtime"}"""
        )
    ).rows
    assert {row.name: (row.kind, row.moved_bytes) for row in rows} == {
        "gather": ("gather_scatter", 8 * 2**20),
        "in_place": ("other", 2 * 2**20),
        "send": ("between_slices", 2 * 2**20 + 4),
    }
    assert {row.name: row.cycles for row in rows}["gather"] == int(8 * 2**20 / (8.2e11 / 1.5e9))


KERNEL = '  ROOT %k.1 = f32[8] custom-call(%a), custom_call_target="tpu_custom_call"'


def test_kernels_cost_what_their_estimate_says():
    costs = cost_of(module_of(KERNEL), V5E, lambda op: KernelEstimate(123, "by hand"), lambda op: None)
    assert [(row.kind, row.cycles, row.how) for row in costs.rows] == [("kernel", 123, "by hand")]


def test_an_unknown_kernel_is_named():
    costs = cost(module_of(KERNEL))
    assert [row.cycles for row in costs.rows] == [0]
    assert costs.notes == ["nothing is known about the cost of kernel k.1: counted as 0"]


def test_the_optimizers_work_is_told_from_the_rest():
    text = """HloModule m

FileNames
1 "/src/trainer/optimizer.py"
2 "/src/trainer/model/layers.py"

FunctionNames
1 "adamw"
2 "Mlp.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=20 end_line=20 column=44 end_column=68}
2 {file_name_id=2 function_name_id=2 line=20 end_line=20 column=44 end_column=68}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}


%moments (p: f32[8]) -> f32[8] {
  %p = f32[8] parameter(0)
  ROOT %m = f32[8] multiply(%p, %p), metadata={op_name="jit(step)/mul" stack_frame_id=1}
}
ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8] parameter(0)
  %update = f32[8] fusion(%a), kind=kLoop, calls=%moments, metadata={op_name="jit(step)/jit(_where)/select_n"},
    backend_config={"estimated_cycles":"5"}
  ROOT %act = f32[8] tanh(%update), metadata={op_name="jit(step)/transpose(jvp())/tanh" stack_frame_id=2},
    backend_config={"estimated_cycles":"7"}
}
"""
    rows = {row.name: row for row in cost(parse_hlo(text)).rows}
    assert {name: row.kind for name, row in rows.items()} == {"update": "optimizer", "act": "other"}
    assert (rows["update"].origin.part, rows["update"].origin.which) == ("optimizer.py adamw", "outside")
    assert (rows["act"].origin.part, rows["act"].origin.which) == ("model/layers.py Mlp.__call__", "backward")


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}", 4),
        ("replica_groups=[2,16]<=[32]", 16),
        ("replica_groups=mesh['data'=8,'fsdp'=4] {'fsdp'}", 4),
        ("replica_groups=mesh['data'=8,'fsdp'=4] {'data','fsdp'}", 32),
        ("replica_groups={}", 0),
    ],
)
def test_devices_of_a_collective(groups: str, size: int):
    assert group_size(groups) == size


@pytest.mark.parametrize(
    ("operation", "moved"),
    [
        ("f32[1024] all-reduce(%a), replica_groups=[1,4]<=[4]", 2 * 3 / 4 * 4096),
        ("f32[1024] all-gather(%a), replica_groups=[1,4]<=[4]", 3 / 4 * 4096),
        ("f32[256] reduce-scatter(%a), replica_groups=[1,4]<=[4]", 3 / 4 * 4096),
        ("(f32[256], f32[1024]) all-gather-start(%a), replica_groups=[1,4]<=[4]", 3 / 4 * 4096),
        ("((f32[256], f32[8]), (f32[1024], f32[32])) all-gather-start(%a, %b), replica_groups=[1,4]<=[4]", 3168),
        ("f32[1024] all-reduce-start(%a), replica_groups=[1,4]<=[4]", 2 * 3 / 4 * 4096),
        ("f32[1024] all-to-all(%a), replica_groups=[1,4]<=[4]", 3 / 4 * 4096 / 4),
        ("f32[1024] collective-permute(%a), source_target_pairs={{0,1}}", 4096),
    ],
)
def test_bytes_of_a_collective(operation: str, moved: float):
    module = module_of(f"  ROOT %c = {operation}")
    assert collective_bytes(module.computations["main"]["c"]) == moved


@pytest.mark.parametrize(
    ("accelerator", "topology", "group", "axes"),
    [
        ("v5e", "2x4", 8, 1),
        ("v5e", "16x16", 256, 2),
        ("v5e", "16x16", 0, 2),
        ("v5e", "16x16", 16, 1),
        ("v5e", "8x16", 128, 1),
        ("v5p", "2x2x2", 8, 1),
        ("v5p", "4x4x4", 64, 3),
        ("v5p", "4x4x4", 16, 2),
    ],
)
def test_axes_that_a_collective_rides(accelerator: str, topology: str, group: int, axes: int):
    assert torus_axes(ring_sides(slice_for(accelerator, topology)), group) == axes


@pytest.mark.parametrize("generation", generations(), ids=lambda generation: generation.name)
def test_every_generation_has_rates(generation):
    rates = Rates.of(next(s for s in slices() if s.generation is generation))
    assert rates.matmul_flops_per_cycle < rates.peak_flops_per_cycle
    assert rates.link_bytes_per_cycle > 0
    assert [generation.name in note for note in rates.notes] == ([True] if generation.name == "tpu7x" else [])
