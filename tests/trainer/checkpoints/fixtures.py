"""A small training state, a folder of checkpoints, and a list of what was told about them."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainer import lock
from trainer.checkpoints import Checkpoints
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.reports import CheckpointEvent


class State(NamedTuple):
    step: Any
    params: Any
    opt_state: Any


def make_state(step: int, width: int = 16, devices: int = 1) -> State:
    """A state that no other step has; its matrix is divided over the first `devices` devices."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    sharded, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    kernel = jnp.arange(8 * width, dtype=jnp.float32).reshape(8, width) + step
    params = {
        "kernel": jax.device_put(kernel, sharded),
        "scale": jax.device_put(jnp.full(width, step, jnp.float32), whole),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    return State(jax.device_put(jnp.int32(step), whole), params, optimizer.init(params))


def abstract(state: State) -> State:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)


def assert_same(found: State, expected: State) -> None:
    def compare(one: Any, other: Any) -> None:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)

    jax.tree.map(compare, found, expected)


class Recorder:
    """Opens checkpoints of one folder, and keeps the events they told."""

    def __init__(self, directory: Path | str) -> None:
        self.directory: Any = directory
        self.events: list[CheckpointEvent] = []
        self._opened: list[Checkpoints] = []

    def open(self, **settings: Any) -> Checkpoints:
        checkpoints = Checkpoints(self.directory, CheckpointSection.model_validate(settings), self.events.append)
        self._opened.append(checkpoints)
        return checkpoints

    def save(self, *steps: int, **settings: Any) -> Checkpoints:
        """Saves make_state(step) for each, as a run that goes on from the newest, and waits."""
        checkpoints = self.open(**settings)
        checkpoints.restore(abstract(make_state(0)))
        for step in steps:
            checkpoints.save(make_state(step), step, {"saved_at": step})
        checkpoints.wait()
        self.events.clear()
        return checkpoints

    def told(self) -> list[tuple[str, int]]:
        return [(event.action, event.step) for event in self.events]

    def close(self) -> None:
        for checkpoints in self._opened:
            checkpoints.close()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir() if path.name != lock.NAME)
