"""Puts a plan together: memory, cycles, and what they mean per token and per second."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from trainer.plan.cost import Costs, Row
from trainer.plan.rates import Rates
from vishwamai.contract.accelerators import Slice
from vishwamai.contract.config import ModelSection
from vishwamai.contract.plan import (
    BESIDE,
    CostKind,
    CostShare,
    OperationCost,
    PartCost,
    Pass,
    Plan,
    PlanCost,
    PlanMemory,
)
from vishwamai.contract.resolution.lowering import lowering
from vishwamai.contract.resolution.size import layer_matrices
from vishwamai.contract.resolved import Decision, ResolvedJob

OPERATIONS = 15
ADVICE = 4
"""The settings named that would save most, by the estimate."""


def plan_of(
    job: ResolvedJob,
    chosen: Slice,
    memory: PlanMemory,
    costs: Costs | None,
    rates: Rates,
    decisions: Sequence[Decision],
    seconds: float,
) -> Plan:
    """The plan of a job whose step takes this memory and, when it fits, these cycles."""
    tokens = job.batch.tokens_per_step
    return Plan(
        accelerator=chosen.generation.name,
        topology=chosen.topology,
        num_slices=job.hardware.num_slices,
        devices=job.mesh.devices,
        mesh=job.mesh,
        parameters=job.parameters,
        tokens_per_step=tokens,
        tokens_per_device=tokens // job.mesh.devices,
        fits=costs is not None,
        memory=memory,
        cost=None if costs is None else _cost(job, rates, costs),
        advice=[] if costs is not None else lowering(job)[:ADVICE],
        decisions=list(decisions),
        notes=[] if costs is None else [*_padding(job, rates), *rates.notes, *costs.notes],
        versions={name: version(name) for name in ("jax", "libtpu")},
        compile_seconds=round(seconds, 1),
    )


def model_flops_per_token(model: ModelSection) -> float:
    """FLOPs of a training step per token, forward and backward, without any recomputation.

    6 for each weight of a matrix product (looking up the embedding is none), and for each layer 12 x width of its heads
    x the keys that a token sees on average: T / 2 of a window of T, w (1 - w / 2T) of a sliding window of w.
    """
    T = model.max_seq_len
    weights = model.num_layers * layer_matrices(model) + model.vocab_size * model.hidden_dim
    windows = [min(model.sliding_window or T, T) if kind == "sliding" else T for kind in model.layer_kinds]
    keys = sum(window * (1 - window / (2 * T)) for window in windows)
    return 6 * weights + 12 * model.num_heads * model.head_dim * keys


def _padding(job: ResolvedJob, rates: Rates) -> list[str]:
    """What heads narrower than the matrix units cost."""
    width, side = job.effective.model.head_dim, rates.mxu_side
    if width >= side:
        return []
    return [
        f"model.head_dim {width} fills {width / side:.0%} of a matrix unit of {side} x {side}: "
        "attention's products reach that share of the rate at most"
    ]


def _cost(job: ResolvedJob, rates: Rates, costs: Costs) -> PlanCost:
    rows = [row for row in costs.rows if row.kind not in BESIDE]
    total = max(sum(row.cycles for row in rows), 1)
    tokens = job.batch.tokens_per_step / job.mesh.devices
    flops = model_flops_per_token(job.effective.model)
    return PlanCost(
        cycles_per_step=total,
        cycles_per_token=round(total / tokens, 1),
        step_seconds=total / rates.clock_hz,
        tokens_per_second=round(job.batch.tokens_per_step * rates.clock_hz / total, 1),
        mfu=round(flops * tokens / (total * rates.peak_flops_per_cycle), 4),
        ideal_cycles=round(flops * tokens / rates.matmul_flops_per_cycle),
        model_flops_per_token=flops,
        kinds=_by_kind(rows, total),
        beside=_by_kind((row for row in costs.rows if row.kind in BESIDE), total),
        parts=_by_part(rows, total),
        operations=_operations(rows, total),
    )


def _by_kind(rows: Iterable[Row], total: int) -> list[CostShare]:
    cycles: dict[CostKind, int] = defaultdict(int)
    moved: dict[CostKind, float] = defaultdict(float)
    for row in rows:
        cycles[row.kind] += row.cycles
        moved[row.kind] += row.moved_bytes * row.times
    shares = [
        CostShare(kind=kind, cycles=own, share=round(own / total, 4), bytes=round(moved[kind]))
        for kind, own in cycles.items()
    ]
    return sorted(shares, key=lambda share: -share.cycles)


def _by_part(rows: Iterable[Row], total: int) -> list[PartCost]:
    cycles: dict[tuple[str, Pass], int] = defaultdict(int)
    for row in rows:
        cycles[row.origin.part, row.origin.which] += row.cycles
    parts = [
        PartCost(part=part, which=which, cycles=own, share=round(own / total, 4))
        for (part, which), own in cycles.items()
    ]
    return sorted(parts, key=lambda part: -part.cycles)


def _operations(rows: Iterable[Row], total: int) -> list[OperationCost]:
    dearest = sorted(rows, key=lambda row: -row.cycles)[:OPERATIONS]
    return [
        OperationCost(
            name=row.name,
            part=row.origin.part,
            which=row.origin.which,
            kind=row.kind,
            cycles=row.cycles,
            share=round(row.cycles / total, 4),
            times=row.times,
            how=row.how,
            op_name=row.origin.op_name,
        )
        for row in dearest
    ]
