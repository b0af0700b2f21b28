"""What a checkpoint costs the training loop: the time that `save` holds it, and what the steps beside a save lose.

Adam trains weights of a third of MIB, so that the state is of MIB. Steps are donated, as the trainer's are: what is
copied too late is seen in the steps after the save.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

from trainer.checkpoints import Checkpoints
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.reports import CheckpointEvent

MIB = 120
ROUNDS = 5
STEPS = 8
"""Steps after each save, and as many without one."""


def main() -> None:
    """Prints medians over ROUNDS: stall, save, their ratio, and the steps with and without a save beside them."""
    optimizer = optax.adam(1e-3)
    layers = [jax.random.normal(jax.random.key(i), (1024, 1024)) for i in range(MIB // 12)]
    x = jax.random.normal(jax.random.key(MIB), (1024, 32))
    state = (layers, optimizer.init(layers))

    def gradients(layers: list[jax.Array]) -> list[jax.Array]:
        return jax.grad(lambda layers: sum(jnp.mean((layer @ x) ** 2) for layer in layers))(layers)

    def train(state: tuple[list[jax.Array], optax.OptState]) -> tuple[list[jax.Array], optax.OptState]:
        layers, moments = state
        updates, moments = optimizer.update(gradients(layers), moments, layers)
        return optax.apply_updates(layers, updates), moments

    step = jax.jit(train, donate_argnums=0).lower(state).compile()
    stalls, saves, beside, alone = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        committed: list[CheckpointEvent] = []
        checkpoints = Checkpoints(Path(folder), CheckpointSection(keep_last=1), committed.append)
        for turn in range(ROUNDS + 1):
            quiet: list[float] = []
            for seconds in (quiet, []):
                if seconds is not quiet:
                    began = time.perf_counter()
                    checkpoints.save(state, turn + 1, {})
                    stall = time.perf_counter() - began
                for _ in range(STEPS):
                    began = time.perf_counter()
                    state = jax.block_until_ready(step(state))
                    seconds.append(time.perf_counter() - began)
            checkpoints.wait()
            if turn:  # the first warms up
                stalls.append(stall)
                saves.append([event for event in committed if event.action == "committed"][-1].seconds or 0.0)
                alone += quiet
                beside += seconds
        checkpoints.close()
    stall, save = statistics.median(stalls), statistics.median(saves)
    ratio = statistics.median(one / whole for one, whole in zip(stalls, saves, strict=True))
    print(f"\nCheckpoints of {MIB} MiB on {os.cpu_count()} cores: the loop waits {1e3 * stall:.1f} ms of a save of "
          f"{save:.2f} s: {100 * ratio:.1f}% (median of {ROUNDS}, worst "
          f"{100 * max(one / whole for one, whole in zip(stalls, saves, strict=True)):.1f}%). A step takes "
          f"{1e3 * statistics.median(alone):.0f} ms, and {1e3 * statistics.median(beside):.0f} ms beside a save, which "
          "needs the same cores here.")  # fmt: skip


if __name__ == "__main__":
    main()
