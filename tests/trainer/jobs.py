"""Tiny resolved jobs for the trainer's tests."""

from typing import Any

from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Batch, ComputeType, Execution, Mesh, Precision, ResolvedJob, SiteDefaults

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
    "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1"},
    "sequence": {"max_length": 32},
    "logging": {"log_every": 1, "eval_every": 10, "save_every": 10, "profile_every": 0},
}
EXECUTION: dict[str, Any] = {
    "attention": "dense",
    "attention_block": 16,
    "remat": "none",
    "loss_chunk_tokens": 64,
    "weight_axes": [],
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
    Both, `compute` and `execution` replace what resolution chose, so that a test may ask for what no slice offers.
    """
    names = SECTIONS.keys() | sections.keys()
    config = check_config({name: SECTIONS.get(name, {}) | sections.get(name, {}) for name in sorted(names)})
    micro, count = micro_batch or config.training.batch_size, config.training.grad_accum_steps
    changes = {
        "mesh": Mesh(**(mesh or {})),
        "precision": Precision(compute=compute),
        "execution": Execution.model_validate(EXECUTION | (execution or {})),
        "batch": Batch(
            sequences_per_micro_batch=micro,
            accumulation=count,
            sequences_per_step=micro * count,
            tokens_per_step=micro * count * config.model.max_seq_len,
        ),
    }
    return resolve(config, SiteDefaults(platform="cpu")).model_copy(update=changes)
