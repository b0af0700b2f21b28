"""The attention kernel that a job resolved to, checked on the device it is to run on before anything is trained."""

import logging
from typing import Any

import jax.numpy as jnp

from trainer.attention.pattern import Pattern
from trainer.attention.probe import probe
from vishwamai.contract.resolved import AttentionKind, ResolvedJob

_LOG = logging.getLogger(__name__)

_NEXT: dict[AttentionKind, AttentionKind] = {"flash": "splash", "splash": "blockwise"}
"""What runs instead of a TPU kernel that does not agree with plain XLA; blockwise is plain XLA itself."""


def with_checked_kernel(job: ResolvedJob) -> tuple[ResolvedJob, dict[str, Any]]:
    """The job with a kernel that agrees with plain XLA on this device, and what was found, for the effective report.

    Only TPU kernels are checked; another kind stays as it is. Takes seconds, most of them compiling.
    """
    found: dict[str, Any] = {}
    kind = job.execution.attention
    while kind in _NEXT:
        failed = _disagreement(job, kind, found)
        if failed is None:
            break
        _LOG.warning("%s attention is not used: %s; %s runs instead", kind, failed, _NEXT[kind])
        kind = _NEXT[kind]
    execution = job.execution.model_copy(update={"attention": kind})
    return job.model_copy(update={"execution": execution}), found


def _disagreement(job: ResolvedJob, kind: AttentionKind, found: dict[str, Any]) -> str | None:
    """Why a kernel is not to be used for some kind of layer; None when it agrees on all."""
    assert kind in ("flash", "splash")
    model = job.effective.model
    for layer in sorted(set(model.layer_kinds)):
        pattern = Pattern.of(model, layer, job.mesh.model)
        verdict = probe(kind, pattern, model.max_seq_len, jnp.dtype(job.precision.compute))
        found[f"{kind} on {layer} layers"] = {"agrees": verdict.agrees, "why": verdict.why, "seconds": verdict.seconds}
        if not verdict.agrees:
            return verdict.why
    return None
