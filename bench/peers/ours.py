"""Our own step on the same work."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bench.shapes import Shape, job_of, tokens_of
from trainer.batch import Batch
from trainer.mesh import make_mesh
from trainer.step import init_state, make_train_step, put_batch


def make(shape: Shape) -> tuple[Any, Callable[[Any], Any], Any]:
    """(state, compiled step: state -> (state, loss), the compiled program)."""
    job = job_of(shape)
    mesh = make_mesh(job, jax.devices()[:1])
    tokens = tokens_of(shape)
    ones = np.ones((shape.batch, shape.seq))
    batch = put_batch(Batch(tokens[:, :-1], tokens[:, 1:], ones.astype(np.int32), ones.astype(np.float32)), mesh)
    state = init_state(job, mesh)
    compiled = make_train_step(job, mesh).lower(state, batch).compile()

    def run(state: Any) -> tuple[Any, jax.Array]:
        state, metrics = compiled(state, batch)
        return state, metrics.loss

    return state, run, compiled
