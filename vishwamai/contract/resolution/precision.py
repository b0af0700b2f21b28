"""Number formats of the step: compute type, optimizer state, what projections multiply, and the loss scale.

    platform and generation    auto                    fp8                     int8
    TPU tpu7x                  fp8 if use_fp8 gains    fp8                     none: not faster
    TPU v5e, v5p, v6e          none                    fp8 numbers, converted  int8
    TPU v3, v4                 none                    fp8 numbers, converted  none: not faster
    GPU                        fp8 if use_fp8          fp8                     none: not measured
    CPU                        as on the generation that it rehearses

The GPU's own generation is known only where the job runs: without FP8 units the trainer computes without FP8, and says
so in its effective report. auto asks for low precision only over bfloat16, and on a TPU only for layers so wide that
FP8 gains: rounding takes passes over the operands, which products of narrow ones do not repay.
"""

from typing import Literal

from vishwamai.contract.low_precision import NATIVE_FP8, Measured, measured
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolved import ComputeType, Hardware, LowPrecisionPart, Mesh, Precision, Products

_ALWAYS_SKIPPED = ("embedding", "head", "norms")
_PARTS: tuple[LowPrecisionPart, ...] = ("attention", "mlp")
_Kind = Literal["fp8", "int8", "none"]
_FP8, _LOW, _SKIP = "optimization.use_fp8", "optimization.low_precision", "optimization.low_precision_skip"


def settle_precision(draft: Draft, hardware: Hardware, mesh: Mesh) -> Precision:
    """bfloat16 when both switches ask for it, else float32; eight-bit products as the module's table has it."""
    compute = _compute(draft)
    parts = _parts(draft)
    width = min(draft["model.hidden_dim"], draft["model.mlp_dim"] // mesh.model)
    products = _products(draft, hardware, compute, parts, width)
    _cache(draft)
    return Precision(
        compute=compute,
        products=products,
        products_in=[] if products == "compute" else parts,
        scaling={"compute": "none", "fp8": "tensor", "int8": "token"}[products],
        optimizer_state=draft["training.optimizer.state_dtype"],
        loss_scale="dynamic" if _scaled(draft, compute, products) else "none",
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


def _parts(draft: Draft) -> list[LowPrecisionPart]:
    """Parts whose projections may be of eight-bit numbers."""
    asked = draft[_SKIP]
    skipped = [*_ALWAYS_SKIPPED, *(part for part in _PARTS if part in asked)]
    if asked != skipped:
        draft.decide(_SKIP, skipped, "embedding, head and norms stay in the compute type, whatever is listed")
    return [part for part in _PARTS if part not in asked]


def _products(
    draft: Draft, hardware: Hardware, compute: ComputeType, parts: list[LowPrecisionPart], width: int
) -> Products:
    if parts:
        kind, why = _chosen(draft, hardware, compute, width)
    else:
        kind, why = "none", f"low_precision_skip keeps attention and mlp out: products are computed in {compute}"
    draft.decide(_LOW, kind, why)
    if draft[_FP8] != (kind == "fp8"):
        draft.decide(_FP8, kind == "fp8", why)
    return "compute" if kind == "none" else kind


def _chosen(draft: Draft, hardware: Hardware, compute: ComputeType, width: int) -> tuple[_Kind, str]:
    """The effective low_precision, and why."""
    asked, plain = draft[_LOW], f"products are computed in {compute}"
    fp8 = measured(hardware.accelerator, "fp8", width)
    if asked == "fp8":
        return "fp8", _fp8_words(hardware, fp8)
    if asked == "int8":
        return _int8(hardware, compute)
    if asked == "none":
        return "none", plain
    if not draft[_FP8]:
        return "none", f"{plain}: use_fp8 is false"
    if compute == "float32":
        return "none", f"{plain}: bfloat16 was switched off, and only low_precision fp8 asks for FP8 all the same"
    if hardware.platform != "gpu" and hardware.accelerator not in NATIVE_FP8:
        return "none", f"{plain}: {hardware.accelerator} has no FP8 units, and FP8 costs it {fp8}"
    if hardware.platform != "gpu" and fp8.ratio >= 1:
        return "none", f"{plain}: layers {width} wide do not repay the rounding to FP8, which costs {fp8}"
    return "fp8", _fp8_words(hardware, fp8)


def _fp8_words(hardware: Hardware, cost: Measured) -> str:
    formats = "e4m3 weights and activations, e5m2 gradients, a scale for each tensor"
    name = hardware.accelerator
    if hardware.platform == "gpu":
        return f"{formats}; a GPU without FP8 units computes without it, as its effective report says"
    units = "" if name in NATIVE_FP8 else f", without FP8 units: {name} converts the numbers to multiply them"
    rehearsed = f"; the CPU rehearses the numbers of {name}, not its speed" if hardware.platform == "cpu" else ""
    return f"{formats}: {cost}{units}{rehearsed}"


def _int8(hardware: Hardware, compute: ComputeType) -> tuple[_Kind, str]:
    plain, name = f"products are computed in {compute}", hardware.accelerator
    cost = measured(name, "int8")
    if hardware.platform == "gpu":
        return "none", f"{plain}: int8 was measured on TPUs alone"
    if cost.ratio >= 1:
        return "none", f"{plain}: int8 is no faster on {name}, it costs {cost}"
    return "int8", f"a scale for each token and each weight, weights' gradients in {compute}: {cost}"


def _scaled(draft: Draft, compute: ComputeType, products: Products) -> bool:
    """Whether the loss is scaled."""
    name = "optimization.use_dynamic_scale"
    if not draft[name]:
        return False
    if compute == "float32" and products != "fp8":
        draft.decide(name, False, "float32 holds small gradients as they are, so there is nothing to scale")
        return False
    gradients = "gradients of products are rounded to e5m2; " if products == "fp8" else ""
    why = (
        f"use_dynamic_scale asks for it; {gradients}a scale that is a power of two changes no bfloat16 result, "
        "and a step whose gradients overflow is skipped and counted"
    )
    draft.explain("precision.loss_scale", "dynamic", why)
    return True


def _cache(draft: Draft) -> None:
    """Says what generation's keys and values become; the setting holds as it stands."""
    if draft["memory.kv_cache_fp8"]:
        width = draft["model.head_dim"]
        share = (width + 1) / (2 * width)
        why = (
            f"generation keeps e4m3 with an exponent byte per head: {share:.3f} of bfloat16's bytes at head_dim {width}"
        )
        draft.explain("memory.kv_cache_fp8", True, why)
