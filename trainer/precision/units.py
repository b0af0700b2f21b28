"""Whether a device multiplies eight-bit numbers as they are, or converts them first: known only where the job runs."""

import logging
from typing import Any

import jax

from trainer.precision.product import FORMATS
from vishwamai.contract.low_precision import NATIVE_FP8
from vishwamai.contract.resolved import ResolvedJob

_LOG = logging.getLogger(__name__)
_HOPPER = (9, 0)
"""Compute capability."""


def with_available_products(job: ResolvedJob, device: jax.Device) -> ResolvedJob:
    """The job, without FP8 on a GPU that has no units for it, unless the config asks for FP8 by name."""
    asked = job.requested.get("optimization", {}).get("low_precision")
    if job.precision.products != "fp8" or asked == "fp8" or device.platform != "gpu" or _is_hopper(device):
        return job
    _LOG.warning("products are computed in %s: %s has no FP8 units", job.precision.compute, device.device_kind)
    plain = {"products": "compute", "products_in": [], "scaling": "none"}
    return job.model_copy(update={"precision": job.precision.model_copy(update=plain)})


def products_report(job: ResolvedJob, device: jax.Device) -> dict[str, Any]:
    """What projections multiply on this device, as JSON for the effective report."""
    kind = job.precision.products
    if kind == "compute":
        return {"operands": job.precision.compute}
    formats = FORMATS[kind]
    return {
        "operands": formats.operand.name,
        "gradients": formats.gradient.name,
        "in": list(job.precision.products_in),
        "units": "native" if _is_native(job, device) else "none, the numbers are converted",
    }


def _is_native(job: ResolvedJob, device: jax.Device) -> bool:
    if device.platform == "gpu":
        return _is_hopper(device)
    return device.platform == "tpu" and (job.precision.products == "int8" or job.hardware.accelerator in NATIVE_FP8)


def _is_hopper(gpu: jax.Device) -> bool:
    capability = tuple(int(part) for part in gpu.compute_capability.split("."))
    return capability >= _HOPPER
