"""Twins that differ in what their projections multiply, trained on the same tokens of the demo corpus: what FP8 costs.

`python -m bench.twins [--steps N]` prints each twin's evaluation loss, over the whole held-out text of the job, and by
how much it differs from that of the twin in bfloat16. On a CPU, which has FP8's numbers and none of its speed.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from trainer.data import TrainingData, open_data
from trainer.evaluate import Evaluator
from trainer.mesh import make_mesh
from trainer.step import init_state, make_eval_step, make_train_step, put_batch
from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults


@dataclass(frozen=True, slots=True)
class Trained:
    """How a twin ended."""

    job: ResolvedJob
    loss: float
    """Nats a byte on held-out text."""
    skipped: int
    """Steps."""


def twin(
    steps: int,
    sequences: int = 16,
    model: Mapping[str, int] = MappingProxyType({}),
    learning_rate: float = 4e-3,
    **optimization: Any,
) -> ResolvedJob:
    """A job of a small model for so many steps of so many sequences, on one CPU device that rehearses a TPU.

    `model` is laid over the section's sizes.
    """
    sizes = {"hidden_dim": 64, "num_layers": 2, "num_heads": 2, "max_seq_len": 128} | dict(model)
    document = {
        "model": {"family": "llama", "vocab_size": 258, "num_kv_heads": 1, "head_dim": 32, "mlp_dim": 192}
        | {"dropout_rate": 0.0, "tie_embeddings": True}
        | sizes,
        "training": {"batch_size": sequences, "grad_accum_steps": 1, "learning_rate": learning_rate, "warmup_steps": 30}
        | {"max_steps": steps},
        "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1"},
        "optimization": optimization,
        "memory": {"gradient_checkpointing": False},
        "sequence": {"max_length": sizes["max_seq_len"]},
        "data": {"eval_batches": 16},
        "logging": {"log_every": 1, "eval_every": steps, "save_every": 0},
    }
    return resolve(check_config(document), SiteDefaults(platform="cpu"))


def train(job: ResolvedJob, data: TrainingData) -> Trained:
    """Trains a twin to its end."""
    mesh = make_mesh(job)
    step, state = make_train_step(job, mesh), init_state(job, mesh)
    for number in range(1, job.effective.training.max_steps + 1):
        state, _ = step(state, put_batch(data.batch(number), mesh))
    evaluator = Evaluator(make_eval_step(job, mesh), data.eval_batches(), lambda batch: put_batch(batch, mesh))
    loss = evaluator.evaluate(state.params, job.effective.training.max_steps).loss
    return Trained(job, loss, int(state.health.skipped))


def main() -> None:
    """Trains the twins and prints the table."""
    parser = argparse.ArgumentParser(prog="bench.twins")
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    data = open_data(twin(steps))
    print(f"\nTwins after {steps} steps of {twin(steps).batch.tokens_per_step} tokens")
    plain = train(twin(steps, low_precision="none"), data)
    for kind in ("none", "fp8", "int8"):
        found = plain if kind == "none" else train(twin(steps, low_precision=kind), data)
        print(
            f"{found.job.precision.compute} with {found.job.precision.products:8} loss {found.loss:.4f}"
            f"  {100 * (found.loss / plain.loss - 1):+.2f}%  {found.skipped} steps skipped",
            flush=True,
        )


if __name__ == "__main__":
    main()
