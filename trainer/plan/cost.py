"""Cycles of a compiled step on one device, from the text of its optimized HLO.

    cycles(step) = sum over the entry computation of  estimated_cycles x trips of the loops around it

libtpu writes its own static estimate beside every top-level fusion and copy; a conditional costs its
dearest branch.
Three kinds of operation have no estimate:

    Pallas kernels        from their scheduled instructions (kernels.py)
    collectives           bytes over the links (collectives.py)
    gathers, scatters     bytes written / HBM rate: a lower bound, rows are slower
    and in-place updates

What runs beside the compute is listed apart and not part of the total: collectives and copies that XLA made
asynchronous, a SparseCore's own work, and transfers between slices. So the sum compares programs for one TPU; it does
not predict wall time.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainer.plan.collectives import COLLECTIVES, collective_bytes, group_size, torus_axes
from trainer.plan.hlo import Module, Operation
from trainer.plan.parts import PRODUCTS, Origin, Origins
from trainer.plan.rates import Rates
from trainer.plan.trips import trip_count
from vishwamai.contract.plan import BESIDE, CostKind

_FREE = frozenset(
    {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id"}
    | {"iota", "opt-barrier", "add-dependency"}
)
_BY_BYTES = frozenset(
    {"gather", "scatter", "sort", "dynamic-update-slice", "dynamic-slice", "copy", "reduce", "rng-bit-generator"}
    | PRODUCTS
)
_CALLS = frozenset({"call", "async-start", "call-start", "custom-call-start"})
_SMALL = 1 << 20
"""Bytes up to which an operation without an estimate is free: it fits beside the others in VMEM."""


@dataclass(frozen=True, slots=True)
class KernelEstimate:
    """Cycles of one call of a Pallas kernel."""

    cycles: int
    how: str


KernelCycles = Callable[[Operation], KernelEstimate | None]
Trips = Callable[[Operation], float | None]
"""Trips of a loop whose text does not tell them; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one operation costs in a step."""

    name: str
    kind: CostKind
    origin: Origin
    each: int
    """Cycles of one execution."""
    times: float
    """Executions in a step, on average where loops vary."""
    how: str
    moved_bytes: int = 0
    """Of one execution, for what is counted by bytes."""

    @property
    def cycles(self) -> int:
        """Cycles of a step."""
        return round(self.each * self.times)


@dataclass(frozen=True, slots=True)
class Costs:
    """All that a step costs."""

    rows: list[Row]
    notes: list[str]


def is_kernel(operation: Operation) -> bool:
    """Whether an operation is a call of a Pallas kernel."""
    return 'custom_call_target="tpu_custom_call"' in operation.attributes


def cost_of(module: Module, rates: Rates, kernels: KernelCycles, loops: Trips) -> Costs:
    """What a module's entry computation costs on a TPU with these rates."""
    walk = _Walk(module, rates, kernels, loops)
    return Costs(list(walk.rows(module.entry, 1, "")), list(dict.fromkeys(walk.notes)))


class _Walk:
    def __init__(self, module: Module, rates: Rates, kernels: KernelCycles, loops: Trips) -> None:
        self._module, self._rates, self._kernels, self._loops = module, rates, kernels, loops
        self._origins = Origins(module)
        self.notes: list[str] = []

    def rows(self, computation: str, times: float, beside: str) -> Iterator[Row]:
        """Costs of a computation that runs so often; `beside` says that it is asynchronous, and where it runs."""
        for op in self._module.computations[computation].values():
            on_sparse_core = beside == "sparsecore" and op.kind not in COLLECTIVES
            if op.opcode not in _FREE and not on_sparse_core:
                yield from self._operation(computation, op, times, beside)

    def _operation(self, computation: str, op: Operation, times: float, beside: str) -> Iterator[Row]:
        if op.opcode == "while":
            trips = self._trips(computation, op)
            for inner in op.called("body|condition"):
                yield from self.rows(inner, times * trips, beside)
        elif op.opcode == "conditional":
            branches = op.called("true_computation|false_computation|branch_computations")
            yield from max((list(self.rows(branch, times, beside)) for branch in branches), key=_total)
        elif op.opcode.endswith(("-done", "-update")):
            return  # counted at its start
        elif op.kind in COLLECTIVES:
            yield self._collective(op, times, beside)
        elif op.opcode == "custom-call":
            yield from self._custom_call(op, times)
        elif op.opcode in _CALLS:
            side = "sparsecore" if "sparsecore" in op.attributes else "start" if op.opcode.endswith("-start") else ""
            for inner in op.called("to_apply|calls|called_computations"):
                yield from self.rows(inner, times, beside or side)
        elif op.opcode == "send" and "megascale" in op.attributes:
            yield self._row(op, "between_slices", 0, times, "bytes", op.written_bytes)
        elif op.opcode.endswith("-start"):
            moved = op.written_bytes // (2 if op.opcode == "copy-start" else 1)
            yield self._by_bytes(op, "copy_async", moved, times)
        else:
            yield from self._compute(computation, op, times, beside)

    def _trips(self, computation: str, loop: Operation) -> float:
        known = trip_count(self._module, computation, loop)
        trips = self._loops(loop) if known is None else known
        if trips is None:
            self.notes.append(f"the trips of loop {loop.name} are not in the program: counted once")
            return 1
        return trips

    def _compute(self, computation: str, op: Operation, times: float, beside: str) -> Iterator[Row]:
        """An operation on the TensorCore: by its estimate, else by what is inside it, else by its bytes."""
        if op.cycles is not None:
            yield self._row(op, self._kind(op), op.cycles, times, "estimate")
        elif op.opcode == "fusion":
            if op.name.startswith("async-collective-done"):
                return  # the other end of what its start counted
            side = "start" if op.name.startswith("async-collective-start") else ""
            inner = [row for name in op.called("calls") for row in self.rows(name, times, beside or side)]
            yield from inner
            if not inner and not self._is_view(op) and op.written_bytes > _SMALL:
                yield self._written(computation, op, times)
        elif op.opcode in _BY_BYTES and op.written_bytes > _SMALL:
            yield self._written(computation, op, times)

    def _kind(self, op: Operation) -> CostKind:
        if self._origins.has_product(op):
            return "matmul"
        if re.search("scatter|gather|dynamic-update", op.name):
            return "gather_scatter"
        if self._origins.of(op).of_optimizer:
            return "optimizer"
        is_copy = op.opcode in ("copy", "transpose", "reshape") or op.name.startswith(("copy", "transpose", "bitcast"))
        return "copy" if is_copy else "other"

    def _written(self, computation: str, op: Operation, times: float) -> Row:
        """No estimate: what it writes, once through HBM; of an update in place only the update moves."""
        written = op.written_bytes
        if op.opcode == "dynamic-update-slice":
            update = self._module.computations[computation].get(op.operand_names[1])
            written = written if update is None else update.written_bytes
        kind: CostKind = "gather_scatter" if re.search("gather|scatter", op.opcode + op.op_name) else "other"
        return self._by_bytes(op, kind, written, times)

    def _is_view(self, op: Operation) -> bool:
        inside = [self._module.computations.get(name, {}).values() for name in op.called("calls")]
        return all(inner.opcode in _FREE for operations in inside for inner in operations)

    def _collective(self, op: Operation, times: float, beside: str) -> Row:
        moved = collective_bytes(op)
        axes = torus_axes(self._rates.rings, group_size(op.attributes))
        kind: CostKind = "collective_async" if beside or op.opcode.endswith("-start") else "collective"
        cycles = int(moved / (self._rates.link_bytes_per_cycle * axes))
        return self._row(op, kind, cycles, times, "bytes / links", int(moved))

    def _custom_call(self, op: Operation, times: float) -> Iterator[Row]:
        estimate = self._kernels(op) if is_kernel(op) else None
        if estimate is None and op.cycles is not None:
            estimate = KernelEstimate(op.cycles, "estimate")
        if estimate is not None:
            yield self._row(op, "kernel" if is_kernel(op) else "other", estimate.cycles, times, estimate.how)
        elif is_kernel(op):
            self.notes.append(f"nothing is known about the cost of kernel {op.name}: counted as 0")
            yield self._row(op, "kernel", 0, times, "unknown")

    def _by_bytes(self, op: Operation, kind: CostKind, moved: int, times: float) -> Row:
        return self._row(op, kind, int(moved / self._rates.hbm_bytes_per_cycle), times, "bytes / HBM", moved)

    def _row(self, op: Operation, kind: CostKind, each: int, times: float, how: str, moved: int = 0) -> Row:
        return Row(op.name, kind, self._origins.of(op), each, times, how, moved)


def _total(rows: list[Row]) -> int:
    return sum(row.cycles for row in rows if row.kind not in BESIDE)
