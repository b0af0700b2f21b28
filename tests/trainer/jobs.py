"""Tiny resolved jobs for the trainer's tests."""

from typing import Any

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.resolved import Batch, ComputeType, Execution, Hardware, Mesh, Precision, ResolvedJob

SECTIONS: dict[str, dict[str, Any]] = {
    "model": {
        "vocab_size": 258,
        "hidden_dim": 32,
        "num_layers": 2,
        "num_heads": 4,
        "head_dim": 8,
        "mlp_dim": 64,
        "max_seq_len": 32,
        "dropout_rate": 0.0,
    },
    "training": {
        "batch_size": 8,
        "grad_accum_steps": 1,
        "learning_rate": 3e-3,
        "warmup_steps": 2,
        "max_steps": 20,
    },
    "logging": {"log_every": 1, "eval_every": 10, "save_every": 10, "profile_every": 0},
}


def tiny_job(
    *,
    mesh: dict[str, int] | None = None,
    micro_batch: int | None = None,
    compute: ComputeType = "float32",
    execution: dict[str, Any] | None = None,
    **sections: dict[str, Any],
) -> ResolvedJob:
    """A job of a few thousand parameters on CPU; `sections` are laid over SECTIONS, field by field.

    `mesh` names the devices along each axis (others 1); `micro_batch` is the sequences in a forward pass, all devices.
    """
    names = SECTIONS.keys() | sections.keys()
    requested = {name: SECTIONS.get(name, {}) | sections.get(name, {}) for name in sorted(names)}
    config = TrainingConfig.model_validate(requested)
    shape = Mesh(**(mesh or {}))
    micro = micro_batch or config.training.batch_size
    step = micro * config.training.grad_accum_steps
    return ResolvedJob(
        requested=requested,
        effective=config,
        hardware=_hardware(shape.devices),
        mesh=shape,
        precision=Precision(compute=compute),
        execution=Execution.model_validate(
            {
                "attention": "dense",
                "attention_block": 16,
                "remat": "none",
                "loss_chunk_tokens": 64,
                "weight_axes": [],
            }
            | (execution or {})
        ),
        batch=Batch(
            sequences_per_micro_batch=micro,
            accumulation=config.training.grad_accum_steps,
            sequences_per_step=step,
            tokens_per_step=step * config.model.max_seq_len,
        ),
        parameters=count_parameters(config),
        decisions=[],
        warnings=[],
    )


def count_parameters(config: TrainingConfig) -> int:
    """Trainable parameters, written out term by term."""
    m = config.model
    embedding = m.vocab_size * m.hidden_dim
    attention = 2 * m.hidden_dim * m.num_heads * m.head_dim + 2 * m.hidden_dim * m.kv_heads * m.head_dim
    mlp = (3 if m.activation in ("geglu", "swiglu") else 2) * m.hidden_dim * m.mlp_dim
    norms = 2 * m.hidden_dim
    tables = embedding if m.tie_embeddings else 2 * embedding
    return tables + m.num_layers * (attention + mlp + norms) + m.hidden_dim


def _hardware(devices: int) -> Hardware:
    return Hardware(
        platform="cpu",
        accelerator="v5e",
        accelerator_label="tpu-v5-lite-podslice",
        machine_type="ct5lp-hightpu-1t",
        topology=f"1x{devices}",
        chips_per_slice=devices,
        hosts_per_slice=1,
        chips_per_host=devices,
        devices_per_chip=1,
        num_slices=1,
        spot=False,
    )
