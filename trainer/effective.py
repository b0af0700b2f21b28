"""What really runs, for the `effective` event."""

import platform
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from trainer.precision import products_report
from vishwamai.contract.resolved import ResolvedJob


def effective_settings(
    job: ResolvedJob, mesh: Mesh, data: dict[str, Any], params: Any, *, resumed_from: int | None
) -> dict[str, Any]:
    """Versions, devices, mesh, precision, kernels, corpus facts and size of the model, as JSON."""
    first = mesh.devices.flat[0]
    return {
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "backend": first.platform,
        "device_kind": first.device_kind,
        "devices": mesh.size,
        "processes": jax.process_count(),
        "mesh": {str(axis): size for axis, size in mesh.shape.items()},
        "precision": job.precision.model_dump(mode="json"),
        "products": products_report(job, first),
        "execution": job.execution.model_dump(mode="json"),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "tokens_per_step": job.batch.tokens_per_step,
        "data": data,
        "compile_cache": jax.config.jax_compilation_cache_dir,
        "resumed_from": resumed_from,
    }
