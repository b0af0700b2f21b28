"""Which settings would lower the memory that a device needs, and by how much: the estimate, asked again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vishwamai.contract.resolution.memory import Need, Work, estimate
from vishwamai.contract.resolved import ResolvedJob

ENOUGH = 3
"""Changes that leave the model as it is; where there are fewer, smaller models are named, too."""


@dataclass(frozen=True, slots=True)
class Change:
    """Settings to write, in words, and the work as it would be."""

    words: str
    work: Work


def lowering(job: ResolvedJob) -> list[str]:
    """At least three settings that would lower a device's need, the largest saving first.

    Each reads 'training.batch_size 4 with grad_accum_steps 8 saves 1.2 GiB'. Fewer than three only where a model is
    as small as can be.
    """
    work = Work.of(job)
    now = estimate(work).total
    found = _savings(now, _same_model(work))
    if len(found) < ENOUGH:
        found += _savings(now, _smaller_model(work))
    found.sort(key=lambda saving: -saving[0])
    return [f"{words} saves {in_bytes(saved)}" for saved, words in found]


def in_bytes(number: float) -> str:
    """A size for people, in GiB; in MiB where that says more."""
    mebibytes = number / 2**20
    if mebibytes >= 100:
        return f"{mebibytes / 1024:.1f} GiB"
    return f"{mebibytes:.0f} MiB" if mebibytes >= 10 else f"{mebibytes:.2g} MiB"


def need_in_words(need: Need) -> str:
    """The parts of a need, one after another."""
    teacher = f", {in_bytes(need.teacher)} for the teacher" if need.teacher else ""
    return (
        f"{in_bytes(need.total)} ({in_bytes(need.state)} for weights and optimizer, {in_bytes(need.gathered)} for "
        f"weights at work, {in_bytes(need.gradients)} for gradients, {in_bytes(need.activations)} for activations, "
        f"{in_bytes(need.under_way)} for the layer or logits under way{teacher})"
    )


def _savings(now: float, changes: Iterator[Change]) -> list[tuple[float, str]]:
    asked = [(now - estimate(change.work).total, change.words) for change in changes]
    return [(saved, words) for saved, words in asked if saved > 0]


def _same_model(work: Work) -> Iterator[Change]:
    """Changes of how the step is computed, not of what it computes."""
    training, execution = work.config.training, work.execution
    if (batch := training.batch_size) > 1:
        accumulate = -(-batch * training.grad_accum_steps // (batch // 2))
        words = f"training.batch_size {batch // 2} with grad_accum_steps {accumulate}"
        yield Change(words, _with(work, "training", batch_size=batch // 2, grad_accum_steps=accumulate))
    yield from _remat(work)
    if execution.attention == "dense":
        memory_efficient = replace(work, execution=execution.model_copy(update={"attention": "blockwise"}))
        yield Change('optimization.attention "blockwise"', memory_efficient)
    if execution.weight_axes and execution.weight_gather == "step":
        by_layer = replace(work, execution=execution.model_copy(update={"weight_gather": "layer"}))
        yield Change('optimization.weight_gather "layer"', by_layer)
    if work.precision.optimizer_state == "float32":
        low = replace(work, precision=work.precision.model_copy(update={"optimizer_state": "bfloat16"}))
        yield Change('training.optimizer.state_dtype "bfloat16"', low)
    if work.precision.compute == "float32":
        low = replace(work, precision=work.precision.model_copy(update={"compute": "bfloat16"}))
        yield Change("tpu.use_bfloat16 and optimization.mixed_precision true", low)
    yield from _more_devices(work)


def _remat(work: Work) -> Iterator[Change]:
    """The policy that keeps least on the device."""
    policies = ("attention", "full", "offload")
    trials = [replace(work, execution=work.execution.model_copy(update={"remat": policy})) for policy in policies]
    best = min(trials, key=lambda trial: estimate(trial).total)
    on = " with gradient_checkpointing true" if work.execution.remat == "none" else ""
    yield Change(f'memory.remat_policy "{best.execution.remat}"{on}', best)


def _more_devices(work: Work) -> Iterator[Change]:
    """Weights over more devices: those that hold copies of them, or those of a slice of twice the size."""
    mesh, execution = work.mesh, work.execution
    copies = mesh.data * mesh.fsdp // work.hardware.num_slices
    if execution.weight_axes:
        axis = execution.weight_axes[0]
        wider = mesh.model_copy(update={axis: 2 * getattr(mesh, axis)})
        yield Change(f"a slice of twice the size (tpu.tpu_cores {2 * mesh.devices})", replace(work, mesh=wider))
    elif copies > 1 and work.config.model.hidden_dim % copies == 0:
        split = mesh.model_copy(update={"data": work.hardware.num_slices, "fsdp": copies})
        by_layer = execution.model_copy(update={"weight_axes": ["fsdp"], "weight_gather": "layer"})
        words = 'optimization.shard_weights true with tpu.device_strategy "fsdp"'
        yield Change(words, replace(work, mesh=split, execution=by_layer))


def _smaller_model(work: Work) -> Iterator[Change]:
    model = work.config.model
    for name, least in (("max_seq_len", 2), ("num_layers", 1), ("mlp_dim", 1), ("vocab_size", 2)):
        if (smaller := getattr(model, name) // 2) >= least:
            yield Change(f"model.{name} {smaller}", _with(work, "model", **{name: smaller}))


def _with(work: Work, section: str, **fields: Any) -> Work:
    changed = getattr(work.config, section).model_copy(update=fields)
    return replace(work, config=work.config.model_copy(update={section: changed}))
