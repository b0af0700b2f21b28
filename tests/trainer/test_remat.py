"""What a layer keeps for its backward pass changes memory, and nothing else."""

import functools
from typing import get_args

import jax
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.gradients import make_gradients
from trainer.mesh import make_mesh
from trainer.step import init_state, put_batch
from vishwamai.contract.resolved import RematPolicy

MODEL = {"num_layers": 4, "dropout_rate": 0.1, "activation": "swiglu", "max_seq_len": 64}


@functools.cache
def gradients(policy, scan_layers=True):
    """Sums and gradients of one step, and MiB of temporaries."""
    execution = {"remat": policy, "scan_layers": scan_layers, "attention": "blockwise"}
    job = tiny_job(model=MODEL, execution=execution)
    mesh = make_mesh(job)
    params = init_state(job, mesh).params
    batch, key, scale = put_batch(random_batch(job), mesh), np.array([1, 2], np.uint32), np.float32(1)
    program = jax.jit(make_gradients(job, mesh)).lower(params, batch, key, scale).compile()
    memory = program.memory_analysis()
    assert memory is not None
    return jax.device_get(program(params, batch, key, scale)), memory.temp_size_in_bytes


@pytest.mark.parametrize(
    ("policy", "scan_layers"), [*((policy, True) for policy in get_args(RematPolicy)[1:]), ("attention", False)]
)
def test_every_policy_gives_the_same_gradients(policy, scan_layers):
    expected, _ = gradients("none")
    found, _ = gradients(policy, scan_layers)
    # The same operations, which XLA fuses in other ways.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_keeping_less_takes_less_memory():
    whole, dots, attention, full = (gradients(policy)[1] for policy in ("none", "dots", "attention", "full"))
    assert full < attention < dots < whole
