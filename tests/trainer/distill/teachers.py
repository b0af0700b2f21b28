"""Teachers made for tests: a tiny run's output folder, and what a student needs to follow it."""

import os
from pathlib import Path
from typing import Any

from tests.trainer.jobs import tiny_job
from tests.trainer.run.lives import small_job
from trainer.attempt import Attempt
from trainer.distill.teacher import find_teacher
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
