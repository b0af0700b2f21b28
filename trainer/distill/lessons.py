"""Which lesson a job's step has: none, beside a teacher of the same tokens or of others, or from a cache."""

import jax
from jax.sharding import Mesh

from trainer.distill.cached_lesson import CachedLesson, abstract_kept
from trainer.distill.cross_lesson import CrossLesson, abstract_retold
from trainer.distill.lesson import Lesson
from trainer.gradients import TaughtLoss
from vishwamai.contract.resolved import ResolvedJob


def lesson_of(job: ResolvedJob, mesh: Mesh) -> TaughtLoss | None:
    """What the job's devices do to learn from its teacher, if it has one."""
    if job.teacher_cache is not None:
        return CachedLesson(job, mesh)
    if job.teacher is None:
        return None
    return Lesson(job, mesh) if job.teacher.tokens is None else CrossLesson(job, mesh)


def abstract_lesson(job: ResolvedJob, mesh: Mesh) -> dict[str, jax.Array]:
    """Batch.lesson of one step as jax.ShapeDtypeStruct with shardings."""
    return abstract_kept(job, mesh) or abstract_retold(job, mesh)
