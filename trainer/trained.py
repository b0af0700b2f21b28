"""Everything that a job trains, described once.

That is the model's parameters and, beside a teacher of another width, a projection of the student's hidden states,
[pairs, student's width, teacher's width]. The projection is saved with the rest and is no part of the model: neither
generation nor export looks at it.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from trainer.model import Description, Params, describe, init_params
from vishwamai.contract.resolved import ResolvedJob

PROJECTION = "projection"
_AXES = ("layers", "embed", "teacher_embed")


def describe_trained(job: ResolvedJob) -> Description:
    """The description of all that the job trains; its graph is the model's alone."""
    model = describe(job.effective.model)
    shape = _projection_shape(job)
    if shape is None:
        return model
    projection = jax.ShapeDtypeStruct(shape, jnp.float32)
    return replace(model, shapes=model.shapes | {PROJECTION: projection}, axes=model.axes | {PROJECTION: _AXES})


def init_trained(job: ResolvedJob, key: jax.Array) -> Params:
    """Fresh parameters; the model's are those that a job without a teacher begins with."""
    return with_projection(job, init_params(job.effective.model, key), key)


def with_projection(job: ResolvedJob, params: Params, key: jax.Array) -> Params:
    """The model's parameters with a fresh projection if the job has one."""
    shape = _projection_shape(job)
    if shape is None:
        return params
    drawn = jax.random.normal(jax.random.fold_in(key, 1), shape, jnp.float32)
    return params | {PROJECTION: shape[1] ** -0.5 * drawn}


def of_model(params: Params) -> Params:
    """The model's parameters alone."""
    return {name: tree for name, tree in params.items() if name != PROJECTION}


def _projection_shape(job: ResolvedJob) -> tuple[int, int, int] | None:
    width, teacher = job.effective.model.hidden_dim, job.teacher
    if teacher is None or not teacher.projects(width):
        return None
    return len(teacher.layers), width, teacher.model.hidden_dim
