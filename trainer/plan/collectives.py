"""Cycles of a collective over the chips' own network.

    cycles = bytes over the busiest link / (2 directions x rate of one direction x torus axes the group can ride)

with n devices in a group and an array of `size` bytes (gathered, or not yet scattered):

    all-gather, reduce-scatter   (n - 1)/n size                     each device passes on all but its own part
    all-reduce                   2 (n - 1)/n size                   one of each
    all-to-all                   (n - 1)/n size / 4                 half the array, half the ring away, two ways round
    collective-permute           size

Latency is left out, and so is contention between collectives: this compares layouts, it does not predict times.
"""

import math
import re

from trainer.plan.hlo import Operation, array_bytes
from vishwamai.contract.accelerators import Slice, sides, slices

COLLECTIVES = frozenset(
    {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all"}
)


def collective_bytes(operation: Operation) -> float:
    """Bytes that one execution moves over the busiest link, both directions together."""
    size, group = _result_bytes(operation), group_size(operation.attributes)
    others = (group - 1) / group if group else 1.0
    match operation.kind:
        case "all-reduce":
            return 2 * others * size
        case "all-gather":
            return others * size
        case "reduce-scatter":
            return others * size * max(group, 1)
        case "all-to-all":
            return others * size / 4 if group else size
    return size


def _result_bytes(operation: Operation) -> int:
    """Bytes of the result. The start of an asynchronous collective may carry its operands in front of it."""
    arrays, operands = array_bytes(operation.shape), len(operation.operand_names)
    if operation.opcode.endswith("-start") and len(arrays) >= 2 * operands:
        return sum(arrays[operands : 2 * operands])
    return sum(arrays)


def group_size(attributes: str) -> int:
    """Devices that one collective joins; 0 when its text does not say, which means all."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(found[1])
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes):
        axes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(axes.get(axis, 1)) for axis in re.findall(r"'(\w+)", found[2]))
    return 0


def ring_sides(chosen: Slice) -> tuple[int, ...]:
    """The sides of a slice whose ends are joined, the longest first.

    Three-dimensional slices close every side of 4 and more; two-dimensional ones only the sides of a whole pod.
    """
    own = [s for s in slices() if s.generation is chosen.generation]
    shortest = 4 if chosen.generation.dimensions == 3 else max(max(sides(s.topology)) for s in own)
    return tuple(sorted((side for side in sides(chosen.topology) if side >= shortest), reverse=True))


def torus_axes(rings: tuple[int, ...], group: int) -> int:
    """Axes that a collective over `group` devices (0: all) uses at a time; at least one."""
    used, chips = 0, 1
    for side in rings:
        chips *= side
        used += not group or chips <= group
    return max(used, 1)
