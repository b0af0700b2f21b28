"""Number formats of the step: compute type, optimizer state, loss scale, and what becomes of FP8."""

from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolved import ComputeType, Precision


def settle_precision(draft: Draft) -> Precision:
    """bfloat16 when both switches ask for it, else float32; FP8 and loss scaling are answered here too."""
    compute = _compute(draft)
    _no_fp8(draft, compute)
    _cache(draft)
    return Precision(
        compute=compute,
        optimizer_state=draft["training.optimizer.state_dtype"],
        loss_scale="dynamic" if _scaled(draft, compute) else "none",
    )


def _compute(draft: Draft) -> ComputeType:
    bfloat16, mixed = draft["tpu.use_bfloat16"], draft["optimization.mixed_precision"]
    if bfloat16 != mixed:
        off, on = (
            ("tpu.use_bfloat16", "optimization.mixed_precision")
            if mixed
            else ("optimization.mixed_precision", "tpu.use_bfloat16")
        )
        draft.decide(on, False, f"bfloat16 over float32 weights needs both this and {off}, and {off} is false")
    compute: ComputeType = "bfloat16" if bfloat16 and mixed else "float32"
    moments = draft["training.optimizer.state_dtype"]
    why = f"over float32 weights and {moments} moments" if compute == "bfloat16" else "bfloat16 was switched off"
    draft.explain("precision.compute", compute, why)
    return compute


def _scaled(draft: Draft, compute: ComputeType) -> bool:
    """Whether the loss is scaled."""
    name = "optimization.use_dynamic_scale"
    if not draft[name]:
        return False
    if compute == "float32":
        draft.decide(name, False, "float32 holds small gradients as they are, so there is nothing to scale")
        return False
    why = (
        "use_dynamic_scale asks for it; a scale that is a power of two changes no bfloat16 result, "
        "and a step whose gradients overflow is skipped and counted"
    )
    draft.explain("precision.loss_scale", "dynamic", why)
    return True


def _no_fp8(draft: Draft, compute: ComputeType) -> None:
    if draft["optimization.use_fp8"]:
        generation = draft["tpu.accelerator"]
        gain = (
            "this release has no FP8 matrix products yet; on tpu7x they arrive with the work on precision"
            if generation == "tpu7x"
            else f"{generation} multiplies FP8 no faster than bfloat16, so nothing is lost"
        )
        draft.decide("optimization.use_fp8", False, f"products are computed in {compute}: {gain}")


def _cache(draft: Draft) -> None:
    """Says what generation's keys and values become; the setting holds as it stands."""
    if draft["memory.kv_cache_fp8"]:
        width = draft["model.head_dim"]
        share = (width + 1) / (2 * width)
        why = (
            f"generation keeps e4m3 with an exponent byte per head: {share:.3f} of bfloat16's bytes at head_dim {width}"
        )
        draft.explain("memory.kv_cache_fp8", True, why)
