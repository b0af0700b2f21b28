"""Cycles of the Pallas kernels in a step, from their scheduled instructions (bundles.py).

How often a loop or a branch of a kernel runs is read from the schedule where it is a constant. Where it depends on
values, the kernel's own rule says it: ours bring theirs (flash.py), and for JAX's splash attention, over rows of tiles,

    cycles = grid x common + visited x tile + rows x (the branches that open and close a row)

with the grid as scheduled (XLA has already split it over the two TensorCores of a v4 or v5p chip), and visited = the
tiles that causality leaves. Without a rule every branch counts and a loop of unknown length counts once, but not less
than the FLOPs that the kernel declares at the matmul rate; the notes say so.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.plan.bundles import Region, read_bundles
from trainer.plan.cost import KernelEstimate, is_kernel
from trainer.plan.hlo import Module, Operation
from trainer.plan.rates import Rates

Rule = Callable[[str, str], int | None]
"""Cycles of one call by a kernel's name and schedule; None of a kernel that it does not know."""
_GUARD = 0.8
"""Share of its loop from which a branch that holds others is a guard around the whole step, not a case of its own."""


def read_dump(folder: Path, module: Module) -> dict[str, str]:
    """The final schedules of a program's kernels in libtpu's dump, by the name of the operation."""
    operations = [op for computation in module.computations.values() for op in computation.values()]
    kernels = {_family(op.name) for op in operations if is_kernel(op)}
    found = {}
    for path in sorted(folder.glob("*-final_bundles.txt")):
        name = re.fullmatch(r"\d+-(.+)-\d+-final_bundles\.txt", path.name)
        if name and _family(name[1]) in kernels:
            found[name[1]] = path.read_text(encoding="utf-8", errors="replace")
    return found


@dataclass(slots=True)
class Kernels:
    """Estimates for the kernels of a program, by a rule where it knows one; `notes` collects what is assumed."""

    schedules: Mapping[str, str]
    rates: Rates
    rule: Rule
    notes: list[str]

    def __call__(self, operation: Operation) -> KernelEstimate | None:
        """Cycles of one call; None when neither its schedule nor its FLOPs are known."""
        declared = self._declared(operation)
        schedule = self._schedule(operation.name)
        if schedule is None:
            if declared is None:
                return None
            self.notes.append(f"kernel {operation.name} has no schedule: its declared FLOPs, a lower bound")
            return KernelEstimate(declared, "declared FLOPs / matmul rate")
        known = self._by_rule(operation.name, schedule)
        if known is not None:
            return KernelEstimate(known, "schedule x tiles")
        kernel = read_bundles(schedule)
        if grid := SplashGrid.of(operation):
            return KernelEstimate(round(_splash_cycles(kernel, grid)), "schedule x tiles")
        cycles = round(kernel.cycles(lambda region: 1 if region.trips is None else region.trips))
        if any(region.trips is None for region in kernel.regions()):
            self.notes.append(f"a loop of kernel {operation.name} has no constant end: counted once, a lower bound")
            cycles = max(cycles, declared or 0)
        if any(region.kind == "branch" for region in kernel.regions()):
            self.notes.append(f"every branch of kernel {operation.name} is counted, also where only some are taken")
        return KernelEstimate(cycles, "schedule")

    def _by_rule(self, name: str, schedule: str) -> int | None:
        try:
            return self.rule(name, schedule)
        except ValueError as error:
            self.notes.append(f"the rule for kernel {name} does not fit it: {error}")
            return None

    def _schedule(self, name: str) -> str | None:
        """By name, else that of another call of the same kernel: XLA compiles equal ones once."""
        if name in self.schedules:
            return self.schedules[name]
        same = (text for other, text in self.schedules.items() if _family(other) == _family(name))
        return next(same, None)

    def _declared(self, operation: Operation) -> int | None:
        """The least cycles for the FLOPs that the kernel declares."""
        flops = operation.attribute(r'"flops\W+(\d+)')
        return round(int(flops) / self.rates.matmul_flops_per_cycle) if flops else None


def _family(name: str) -> str:
    return re.sub(r"[.\d]+$", "", name)


@dataclass(frozen=True, slots=True)
class SplashGrid:
    """The tiles of one of JAX's splash attention kernels, for one head: `rows` of `columns` each."""

    rows: int
    columns: int
    visited: int
    """Tiles that hold anything unmasked."""

    @classmethod
    def of(cls, operation: Operation) -> "SplashGrid | None":
        """The grid of a splash kernel; None of another."""
        which = re.match(r"splash_m[hq]a_(fwd|dq|dkv)", operation.name)
        shapes = re.findall(
            r"\b(\w+)\[([\d,]+)\]", operation.attribute(r"operand_layout_constraints=\{(.*?)\}\}") or ""
        )
        arrays = [(kind, [int(size) for size in sizes.split(",")]) for kind, sizes in shapes]
        suffix = "" if which and which[1] == "fwd" else f"_{which[1]}" if which else ""
        blocks = [operation.attribute(rf"\bblock_{axis}{suffix}\W+(\d+)") for axis in ("q", "kv")]
        heads = [sizes for kind, sizes in arrays if kind in ("bf16", "f32") and len(sizes) >= 3]
        if which is None or None in blocks or len(heads) < 2:
            return None
        (query, key), (q_block, kv_block) = (heads[0][-2], heads[1][-2]), (int(block or 1) for block in blocks)
        rows, columns = query // q_block, key // kv_block
        seen = sum(min((row * q_block + q_block - 1) // kv_block + 1, columns) for row in range(rows))
        if which[1] == "dkv":
            rows, columns = columns, rows
        # Under a sliding window the grid is narrower than the square, and nearly all of it is visited.
        next_tiles = next((sizes for kind, sizes in arrays if kind in ("s8", "s16", "s32") and len(sizes) == 3), None)
        across = next_tiles[1 if which[1] == "dkv" else 2] if next_tiles else columns
        return cls(rows, across, seen if across >= columns else rows * across)


def _splash_cycles(kernel: Region, grid: SplashGrid) -> float:
    loop = max((region for region in kernel.inner if region.kind == "loop"), key=lambda region: region.bundles)
    cases = sorted(_cases(loop), key=lambda region: -region.bundles)
    share = {id(case): 1 / grid.columns for case in cases}
    if cases:
        share[id(cases[0])] = grid.visited / (grid.rows * grid.columns)
    return kernel.cycles(lambda region: share.get(id(region), 1 if region.trips is None else region.trips))


def _cases(loop: Region) -> Iterator[Region]:
    """The branches that some steps of a loop take and others do not."""
    for region in loop.inner:
        if region.inner and region.bundles >= _GUARD * loop.bundles:
            yield from _cases(region)
        else:
            yield region
