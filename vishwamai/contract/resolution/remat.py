"""What is kept for the backward pass and how often weights are gathered: by the memory model where it is left open."""

from dataclasses import replace

from vishwamai.contract.accelerators import find_generation
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.memory import Work, estimate, products_bytes
from vishwamai.contract.resolution.size import layer_matrices
from vishwamai.contract.resolved import Execution, RematPolicy

CHEAPEST: tuple[RematPolicy, ...] = ("attention", "full", "offload")
"""Policies in the order in which auto tries them: with scanned layers, `attention` was measured cheapest on TPU."""
KEEPING_PAYS = 10.0
"""From where on keeping results of products is cheaper than computing them again: operations for each byte kept, over
those that the chip does while it moves a byte. A layer 768 wide has 4 to 6 of it and is cheaper without (compiled for
v5e, docs/performance.md); one 4096 wide has 20 to 29."""
_CHECKPOINTING, _POLICY, _GATHER = "memory.gradient_checkpointing", "memory.remat_policy", "optimization.weight_gather"


def settle_remat(draft: Draft, work: Work) -> Work:
    """The work with its rematerialization policy."""
    policy, why = _policy(draft, work)
    draft.explain("execution.remat", policy, why)
    return _with(work, remat=policy)


def _policy(draft: Draft, work: Work) -> tuple[RematPolicy, str]:
    named = draft[_POLICY]
    if named == "none" and draft[_CHECKPOINTING]:
        draft.decide(_CHECKPOINTING, False, 'remat_policy "none" was asked for, and recomputes nothing')
    elif named not in ("auto", "none") and not draft[_CHECKPOINTING]:
        raise AssertionError("a contradiction, which check_config refuses")
    if not draft[_CHECKPOINTING]:
        return "none", f"{_CHECKPOINTING} is false: every layer's arrays wait for the backward pass"
    if named != "auto":
        return named, "as memory.remat_policy asks"
    if work.hardware.platform == "cpu":
        return "attention", "a CPU recomputes all but attention, which costs most to compute again"
    return _fitting(work)


def _fitting(work: Work) -> tuple[RematPolicy, str]:
    """The cheapest policy that fits by the estimate; where none does, the one that needs least."""
    order: tuple[RematPolicy, ...] = ("dots", *CHEAPEST) if _intensity(work) >= KEEPING_PAYS else CHEAPEST
    trials = {policy: estimate(_with(work, remat=policy)) for policy in order}
    for policy, need in trials.items():
        if need.fits:
            tried = " and ".join(order[: order.index(policy)])
            why = f"{tried} would not fit" if tried else "cheapest where layers are scanned, and it fits"
            return policy, f"{why}: about {_gib(need.total)} of {_gib(need.available)} GiB a device"
    least = min(trials, key=lambda policy: trials[policy].total)
    need = trials[least]
    return least, f"no policy fits by the estimate; this needs least: {_gib(need.total)} of {_gib(need.available)} GiB"


def _intensity(work: Work) -> float:
    """Operations that a byte kept of a layer's products saves, over those that the chip does while it moves one."""
    chip = find_generation(work.hardware.accelerator)
    balance = chip.peak_bf16_flops / chip.hbm_bytes_per_second
    saved = 2 * layer_matrices(work.config.model) / work.mesh.model
    return saved / products_bytes(work) / balance


def settle_weight_gather(draft: Draft, work: Work) -> Execution:
    """The execution with `weight_gather`: once a step when all weights and their gradients fit beside the rest."""
    named, axes = draft[_GATHER], work.execution.weight_axes
    if not axes:
        if named != "auto" and _GATHER in draft.asked:
            draft.explain(_GATHER, named, "not used: weights are not split, so nothing is gathered")
        return work.execution
    once = _with(work, weight_gather="step")
    need = estimate(once)
    if named != "auto":
        chosen, why = once if named == "step" else work, "as optimization.weight_gather asks"
    elif need.fits:
        chosen = once
        why = f"all weights and their gradients fit: about {_gib(need.total)} of {_gib(need.available)} GiB a device"
    else:
        chosen = work
        why = f"once a step would need about {_gib(need.total)} of {_gib(need.available)} GiB a device"
    draft.explain("execution.weight_gather", chosen.execution.weight_gather, why)
    return chosen.execution


def _with(work: Work, **fields: str) -> Work:
    return replace(work, execution=work.execution.model_copy(update=fields))


def _gib(number: float) -> str:
    return f"{number / 2**30:.1f}"
