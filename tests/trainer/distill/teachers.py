"""Teachers made for tests: a tiny run's output folder, and what a student needs to follow it."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from tests.trainer.jobs import tiny_job
from tests.trainer.run.lives import small_job
from trainer.attempt import Attempt
from trainer.batch import Batch
from trainer.collectives import add_over
from trainer.distill.lesson import Lesson
from trainer.distill.teacher import find_teacher
from trainer.gradients import OneDevice, StepSums
from trainer.mesh import TOKEN_AXES, batch_spec
from trainer.model import Params
from trainer.step import put_batch
from vishwamai.contract.environment import TrainerEnvironment
from vishwamai.contract.resolved import ResolvedJob

MODEL = {"hidden_dim": 32, "num_layers": 3, "num_heads": 4, "head_dim": 8, "mlp_dim": 64, "num_kv_heads": 2}


def trained_teacher(folder: Path, steps: int = 6, **model: Any) -> Path:
    """The output folder of a short run of a model wider and deeper than `small_job`'s."""
    job = small_job(folder, model=MODEL | model, training={"max_steps": steps}, logging={"eval_every": 0})
    output = folder / "teacher"
    assert Attempt(job, TrainerEnvironment(output / "resolved.json", output)).live(dict(os.environ)) == 0
    return output


def student_of(teacher: Path, *, section: dict[str, Any] | None = None, **sections: Any) -> ResolvedJob:
    """A tiny job with its teacher found; see `tiny_job`."""
    wanted = {"teacher_model": str(teacher), **(section or {})}
    return find_teacher(tiny_job(distillation=wanted, **sections))


def taught_sums(job: ResolvedJob, mesh: Mesh, params: Params, batch: Batch, teacher: Params) -> StepSums:
    """What the loss of one micro-batch is made of, over all devices: the step without its backward pass."""
    device, lesson = OneDevice(job, mesh), Lesson(job, mesh)

    def sums(params: Params, batch: Batch, *taught: Any) -> StepSums:
        key, rows = jnp.zeros(2, jnp.uint32), device.rows(batch)
        found = lesson.loss(device, device.whole(params), batch, rows, key, lesson.prepare(*taught))
        return jax.tree.map(lambda x: add_over(x, *TOKEN_AXES), found)

    specs = (device.specs, batch_spec(mesh), *lesson.specs)
    run = jax.jit(jax.shard_map(sums, mesh=mesh, in_specs=specs, out_specs=PartitionSpec()))
    return jax.device_get(run(params, put_batch(batch, mesh), teacher, jnp.float32(1)))
