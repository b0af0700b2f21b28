"""Programs and schedules made at random cost what they were made to cost."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.plan.programs import cost
from trainer.plan.bundles import read_bundles
from trainer.plan.hlo import parse_hlo

FUSION = '  %f.{n} = f32[8] fusion(%p), kind=kLoop, calls=%none, backend_config={{"estimated_cycles":"{cycles}"}}\n'
LOOP = """  %zero.{n} = s32[] constant({begin})
  %start.{n} = (s32[], f32[8]) tuple(%zero.{n}, %p)
  %loop.{n} = (s32[], f32[8]) while(%start.{n}), condition=%cond.{n}, body=%body.{n}
"""
CONDITION = """%cond.{n} (p: (s32[], f32[8])) -> pred[] {{
  %p = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %end = s32[] constant({end})
  ROOT %c = pred[] compare(%i, %end), direction=LT
}}
"""


def nested_loops(levels: list[tuple[int, int, int]]) -> str:
    """A loop within a loop and so on: cycles beside the next loop, first count, trips."""
    text, body = "", "  %p = f32[8] parameter(0)\n"
    for n, (cycles, begin, trips) in reversed(list(enumerate(levels))):
        body += FUSION.format(n=n, cycles=cycles)
        text += f"%body.{n} (p: f32[8]) -> f32[8] {{\n{body}}}\n" + CONDITION.format(n=n, end=begin + trips)
        body = "  %p = f32[8] parameter(0)\n" + LOOP.format(n=n, begin=begin)
    return f"HloModule m\n\n{text}ENTRY %main (p: f32[8]) -> f32[8] {{\n{body}}}\n"


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=5))
def test_nested_loops_multiply(levels: list[tuple[int, int, int]]):
    costs = cost(parse_hlo(nested_loops(levels)))
    trips = [trips for _, _, trips in levels]
    assert sum(row.cycles for row in costs.rows) == sum(
        cycles * math.prod(trips[: n + 1]) for n, (cycles, _, _) in enumerate(levels)
    )
    assert costs.notes == []


Tree = tuple[int, int, list["Tree"]]
"""Trips, bundles of its own (at least 2), loops in it."""
trees: st.SearchStrategy[Tree] = st.recursive(
    st.tuples(st.integers(1, 30), st.integers(2, 40), st.just([])),
    lambda inner: st.tuples(st.integers(1, 30), st.integers(2, 40), st.lists(inner, max_size=3)),
    max_leaves=6,
)


def schedule(tree: Tree, depth: int, counter: list[int]) -> tuple[str, str]:
    """What sets a loop's counter up, and the loop."""
    trips, own, inner = tree
    counter[0] += 1
    n, marks = counter[0], ">" * depth
    parts = [schedule(each, depth + 1, counter) for each in inner]
    begin = "".join(before for before, _ in parts) + f"     0   : {{ %a{n} = smov.u32 0 }}\n"
    loop = f"  0x1 LB: {marks} {{ %b{n} = sphi %a{n}, %c{n} }}\n"
    loop += "".join(text for _, text in parts)
    loop += f"  0x2   : {marks} {{ work }}\n" * (own - 2)
    loop += f"  0x3   : {marks} {{ %c{n} = sadd.s32 1, %b{n}  ;;  %p{n} = scmp.ge.s32.totalorder %c{n}, {trips} }}\n"
    return begin, loop


def cycles_of(tree: Tree) -> int:
    trips, own, inner = tree
    return trips * (own + sum(map(cycles_of, inner)))


@given(trees)
def test_nested_loops_of_a_schedule_multiply(tree: Tree):
    begin, loop = schedule(tree, 1, [0])
    kernel = read_bundles(begin + loop)
    assert [region.trips for region in kernel.regions()].count(None) == 0
    assert kernel.cycles(lambda region: region.trips or 0) == begin.count("\n") + cycles_of(tree)
