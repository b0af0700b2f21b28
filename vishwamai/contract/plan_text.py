"""A plan for people."""

from collections.abc import Iterator

from vishwamai.contract.plan import Plan, PlanCost, PlanMemory
from vishwamai.contract.resolved import MESH_AXES

_PARTS = 20


def as_text(plan: Plan) -> str:
    """The plan as lines for a terminal."""
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    slices = f"{plan.num_slices} x " if plan.num_slices > 1 else ""
    axes = " x ".join(f"{axis} {n}" for axis in MESH_AXES if (n := getattr(plan.mesh, axis)) > 1) or "1 device"
    versions = ", ".join(f"{name} {number}" for name, number in plan.versions.items())
    yield f"{slices}{plan.accelerator}:{plan.topology}, {plan.devices} devices as {axes}; {versions}"
    yield f"parameters {plan.parameters:,}; tokens {plan.tokens_per_step:,} a step, {plan.tokens_per_device:,} a device"
    yield from _memory(plan.memory)
    if plan.cost:
        yield from _cost(plan.cost)
    if plan.advice:
        yield ""
        yield "would lower it:"
        yield from (f"  {line}" for line in plan.advice)
    if plan.decisions:
        yield ""
        yield "decided otherwise than for the config's own slice:"
        yield from (f"  {one.setting} = {one.effective}: {one.why}" for one in plan.decisions)
    yield from (f"note: {note}" for note in plan.notes)


def _memory(memory: PlanMemory) -> Iterator[str]:
    fits = f"fits, {_size(memory.headroom)} left" if memory.headroom >= 0 else f"{_size(-memory.headroom)} too much"
    yield f"memory of a device: {_size(memory.required)} of {_size(memory.available)}: {fits}"
    if memory.arguments is not None:
        parts = {name: getattr(memory, name) for name in ("arguments", "outputs", "aliased", "temporaries", "program")}
        parts |= {"host": memory.host} if memory.host else {}
        yield "  " + ", ".join(f"{name} {_size(size or 0)}" for name, size in parts.items())


def _cost(cost: PlanCost) -> Iterator[str]:
    yield (
        f"cycles: {cost.cycles_per_step / 1e6:,.1f}M a step, {cost.cycles_per_token:,.0f} a token "
        f"({cost.ideal_cycles / 1e6:,.1f}M ideal, {cost.ideal_cycles / cost.cycles_per_step:.1%} of it)"
    )
    yield (
        f"at the nominal clock: {cost.step_seconds:.4g} s a step, {cost.tokens_per_second:,.0f} tokens/s, "
        f"MFU {cost.mfu:.1%} ({cost.model_flops_per_token / 1e6:,.0f} MFLOP a token)"
    )
    yield ""
    yield from (f"{row.cycles / 1e6:10.2f}M {row.share:6.1%}  {row.kind}" for row in cost.kinds)
    yield from (f"{row.cycles / 1e6:10.2f}M beside  {row.kind}, {_size(row.bytes)}" for row in cost.beside)
    yield ""
    for part in cost.parts[:_PARTS]:
        yield f"{part.cycles / 1e6:10.2f}M {part.share:6.1%}  {part.part} ({part.which})"
    yield ""
    for one in cost.operations:
        where = f"{one.part} ({one.which})"
        yield f"{one.cycles / 1e6:10.2f}M x{one.times:<5g} {one.kind:14s} {where}: {one.name[:40]}, {one.op_name[-60:]}"


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.2f} MiB"
