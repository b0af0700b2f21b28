"""How a teacher's weights are kept, and where.

In one number format; or its layers' projections in eight bits (trainer/precision/weights.py) and the rest in the format
that the step computes in. The rest is tables, norms and biases: what a table says is what the student learns from, and
the others are few.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainer.distill.lesson import teacher_job
from trainer.gradients import kept_specs
from trainer.mesh import Sharding
from trainer.model import Params
from trainer.precision.weights import eight_bit
from trainer.trained import describe_trained
from vishwamai.contract.resolved import ResolvedJob

Keep = Callable[[jax.Array, bool, Any], Any]
"""(weight, whether it is a matrix of a layer, its place) -> the weight as it is kept."""


def keep_teacher(job: ResolvedJob, mesh: Mesh, params: Params) -> Params:
    """A teacher's weights, from host or devices, in their places and formats; one weight at a time is there twice."""

    def keep(x: jax.Array, in_eight_bits: bool, place: Any) -> Any:
        if not in_eight_bits:
            return jax.device_put(x.astype(_dtype(job)), place)
        rounded = jax.jit(eight_bit, static_argnums=1, out_shardings=place)
        return rounded(jax.device_put(x, place.qvalue), _eight_bit(job))

    return _each(job, keep, params, teacher_shardings(job, mesh))


def abstract_teacher(job: ResolvedJob, mesh: Mesh) -> tuple[Params, ...]:
    """The step's arguments behind the batch as jax.ShapeDtypeStruct with shardings: none without a teacher."""
    if job.teacher is None:
        return ()

    def keep(x: jax.Array, in_eight_bits: bool, place: Any) -> Any:
        kept = jax.eval_shape(lambda w: eight_bit(w, _eight_bit(job)) if in_eight_bits else w.astype(_dtype(job)), x)
        return jax.tree.map(lambda x, at: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=at), kept, place)

    return (_each(job, keep, describe_trained(teacher_job(job)).shapes, teacher_shardings(job, mesh)),)


def teacher_shardings(job: ResolvedJob, mesh: Mesh) -> Params:
    """Where the teacher's weights live; one in eight bits has a place for its numbers and one for its scales."""
    assert job.teacher is not None
    theirs = teacher_job(job)
    specs = kept_specs(describe_trained(theirs), Sharding.of(theirs, mesh), job.teacher.eight_bit)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, PartitionSpec))


def _each(job: ResolvedJob, keep: Keep, params: Params, places: Params) -> Params:
    """The tree of what `keep` makes of each weight."""
    assert job.teacher is not None
    matrices, eight = describe_trained(teacher_job(job)).matrices(), job.teacher.eight_bit is not None
    return {
        name: jax.tree.map(
            lambda x, matrix, place, layers=name == "blocks": keep(x, eight and layers and matrix, place),
            tree,
            matrices[name],
            places[name],
        )
        for name, tree in params.items()
    }


def _eight_bit(job: ResolvedJob) -> Any:
    return None if job.teacher is None else job.teacher.eight_bit


def _dtype(job: ResolvedJob) -> Any:
    """Of what is not in eight bits."""
    assert job.teacher is not None
    return jnp.dtype(job.precision.compute if job.teacher.eight_bit else job.teacher.dtype)
