"""What a teacher is worth at equal student tokens, and what it costs: `python -m bench.distillation [TEACHER_RUN]`.

A small student learns the demo corpus alone, and beside a larger teacher trained on the same text; same seed, same
batches, same learning rate; and from a cache of that teacher's likeliest words. Three seeds, all shown. Without an
argument the teacher is trained first.
"""

import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from trainer.attempt import Attempt
from trainer.batch import Batch
from trainer.distill.caching import make_finder
from trainer.distill.lesson import teacher_job
from trainer.distill.load import load_teacher
from trainer.distill.teacher import find_teacher
from trainer.gradients import OneDevice
from trainer.mesh import batch_spec, make_mesh
from trainer.model import Params
from trainer.reporting import Sink
from trainer.step import init_state, make_train_step, put_batch
from vishwamai.contract.environment import TrainerEnvironment
from vishwamai.contract.load import check_config
from vishwamai.contract.reports import AnyEvent, EvalEvent
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults, TeacherCache

SEEDS = (0, 1, 2)
STEPS, TEACHER_STEPS = 300, 600
ROUNDS = 9
STUDENT = {"hidden_dim": 32, "num_layers": 2, "num_heads": 2, "head_dim": 16, "mlp_dim": 128}
TEACHER = {"hidden_dim": 128, "num_layers": 3, "num_heads": 4, "head_dim": 32, "mlp_dim": 512}
TOP_K = 16
SECTION: dict[str, Any] = {"alpha": 0.9, "temperature": 1.0, "use_intermediate_distillation": False}


class _Losses(Sink):
    """The newest evaluation loss."""

    last = float("nan")

    def receive(self, event: AnyEvent) -> None:
        if isinstance(event, EvalEvent):
            self.last = event.loss


def main(arguments: list[str]) -> None:
    """Prints the evaluation losses, then the costs of a step."""
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        teacher = Path(arguments[0]) if arguments else Path(folder) / "teacher"
        if not arguments:
            print(f"teacher: eval loss {train(_job(TEACHER, TEACHER_STEPS, 0, 3e-3), teacher):.4f}", flush=True)
        print(f"student alone, beside the teacher and from {TOP_K} words a token, {STEPS} steps each, {SECTION}")
        gains = [_compare(Path(folder), teacher, seed) for seed in SEEDS]
        print(f"mean {statistics.mean(gains):+.2%}", flush=True)
        _costs(teacher)


def _compare(folder: Path, teacher: Path, seed: int) -> float:
    alone = train(_job(STUDENT, STEPS, seed, 6e-3), folder / f"alone-{seed}")
    taught = train(_job(STUDENT, STEPS, seed, 6e-3, teacher), folder / f"taught-{seed}")
    cache = folder / f"cache-{seed}"
    train(_job(STUDENT, STEPS, seed, 6e-3, teacher, cache, kind="cache_teacher"), folder / f"caching-{seed}")
    cached = train(_job(STUDENT, STEPS, seed, 6e-3, teacher, cache), folder / f"cached-{seed}")
    print(
        f"seed {seed}: alone {alone:.4f}  taught {taught:.4f}  {taught / alone - 1:+.2%}"
        f"  cached {cached:.4f}  {cached / alone - 1:+.2%}",
        flush=True,
    )
    return taught / alone - 1


def _job(
    model: dict[str, int],
    steps: int,
    seed: int,
    rate: float,
    teacher: Path | None = None,
    cache: Path | None = None,
    kind: str = "train",
) -> ResolvedJob:
    section: dict[str, Any] = {} if teacher is None else SECTION | {"teacher_model": str(teacher)}
    if cache is not None:
        section |= {"cache": str(cache), "cache_top_k": TOP_K}
    sections = {"distillation": section} if section else {}
    return job_of(model, steps, seed, rate, run={"kind": kind}, **sections)


def job_of(model: dict[str, int], steps: int, seed: int, rate: float, **sections: dict[str, Any]) -> ResolvedJob:
    """A run on the demo corpus, byte by byte unless the sections say otherwise, in windows of 128 tokens."""
    document: dict[str, Any] = {
        "model": {"vocab_size": 258, **model, "max_seq_len": 128, "dropout_rate": 0.0},
        "training": {
            "batch_size": 8,
            "grad_accum_steps": 1,
            "learning_rate": rate,
            "warmup_steps": 20,
            "max_steps": steps,
        },
        "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1", "use_bfloat16": False},
        "memory": {"gradient_checkpointing": False},
        "optimization": {"mixed_precision": False, "use_fp8": False, "use_dynamic_scale": False},
        "sequence": {"max_length": 128},
        "logging": {"log_every": steps, "eval_every": steps, "save_every": 0, "profile_every": 0},
        "run": {"seed": seed},
    }
    named = document.keys() | sections.keys()
    together = {name: document.get(name, {}) | sections.get(name, {}) for name in sorted(named)}
    return resolve(check_config(together), SiteDefaults(platform="cpu"))


def train(job: ResolvedJob, output: Path) -> float:
    """The evaluation loss of the last step."""
    losses = _Losses()
    code = Attempt(job, TrainerEnvironment(output / "resolved.json", output), sinks=[losses]).live(os.environ)
    if code:
        raise RuntimeError(f"training in {output} ended with exit code {code}")
    return losses.last


def _costs(teacher: Path) -> None:
    """Median seconds of a step alone, beside the teacher, from its cache, and of the teacher's layers, by turns."""
    job = find_teacher(_job(STUDENT, STEPS, 0, 6e-3, teacher))
    mesh = make_mesh(job)
    params = load_teacher(job, mesh)
    alone = job.model_copy(update={"teacher": None})
    random = np.random.default_rng(0)
    shape = (job.batch.sequences_per_step, job.effective.model.max_seq_len)
    tokens = random.integers(0, 258, shape, dtype=np.int32)
    batch = put_batch(Batch(tokens, tokens, np.ones(shape, np.int32), np.ones(shape, np.float32)), mesh)
    programs: dict[str, Callable[[], Any]] = {
        "alone": _stepping(alone, batch),
        "taught": _stepping(job, batch, params),
        "teacher": _forward(job, batch, params),
        "cached": _from_cache(job, batch, params),
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(ROUNDS + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program())
            if turn:
                seconds[name].append(time.perf_counter() - began)
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:8}{median:8.4f} s  [{min(times):.4f}, {max(times):.4f}]"
              f"  {median / statistics.median(seconds['alone']):5.2f}x a step alone", flush=True)  # fmt: skip


def _stepping(job: ResolvedJob, batch: Batch, *teacher: Params) -> Callable[[], Any]:
    mesh = make_mesh(job)
    step = make_train_step(job, mesh).lower(init_state(job, mesh), batch, *teacher).compile()
    state = init_state(job, mesh)

    def program() -> Any:
        nonlocal state
        state, metrics = step(state, batch, *teacher)
        return metrics.loss

    return program


def _from_cache(job: ResolvedJob, batch: Batch, params: Params) -> Callable[[], Any]:
    kept = make_finder(job, make_mesh(job), TOP_K)(params, batch)
    cache = TeacherCache(folder="", top_k=TOP_K, teacher_fingerprint="")
    return _stepping(
        job.model_copy(update={"teacher": None, "teacher_cache": cache}), batch._replace(lesson=kept._asdict())
    )


def _forward(job: ResolvedJob, batch: Batch, params: Params) -> Callable[[], Any]:
    """The teacher's layers, without its head, whose logits only the loss makes."""
    mesh = make_mesh(job)
    device = OneDevice(teacher_job(job), mesh)

    def forward(params: Params, batch: Batch) -> jax.Array:
        tokens, segments = jnp.asarray(batch.inputs), jnp.asarray(batch.segments)
        return device.decoder(device.whole(params))(tokens, segments, device.rows(batch), device.how)

    split = batch_spec(mesh)
    whole = jax.shard_map(forward, mesh=mesh, in_specs=(device.specs, split), out_specs=PartitionSpec(*split, None))
    compiled = jax.jit(whole).lower(params, batch).compile()
    return lambda: compiled(params, batch)


if __name__ == "__main__":
    main(sys.argv[1:])
