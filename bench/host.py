"""What the host does for a step at S: making the batch, dispatch, bookkeeping; as a share of the step's time."""

import statistics
import time

import jax
import numpy as np

from bench.shapes import SHAPES, job_of, tokens_of
from trainer.batch import Batch
from trainer.mesh import make_mesh
from trainer.meter import Meter
from trainer.prefetch import Prefetcher
from trainer.step import init_state, make_train_step, put_batch

STEPS = 12


def main() -> None:
    """Prints host seconds and step seconds, medians, and their ratio."""
    shape = SHAPES["S"]
    job = job_of(shape)
    mesh = make_mesh(job)
    tokens, ones = tokens_of(shape), np.ones((shape.batch, shape.seq))

    def fetch(step: int) -> Batch:
        shifted = np.roll(tokens, step, axis=0)
        return put_batch(Batch(shifted[:, :-1], shifted[:, 1:], ones.astype(np.int32), ones.astype(np.float32)), mesh)

    batches, meter, state = Prefetcher(fetch, 1, STEPS), Meter(), init_state(job, mesh)
    step = make_train_step(job, mesh).lower(state, batches.peek()).compile()
    host, whole = [], []
    for number in range(1, STEPS + 1):
        began = time.perf_counter()
        batch, waited = batches.take()
        taken = time.perf_counter()
        state, metrics = step(state, batch)
        dispatched = time.perf_counter()
        jax.block_until_ready(metrics)
        ready = time.perf_counter()
        meter.add(number, metrics, waited)
        meter.read(number)
        done = time.perf_counter()
        # XLA's CPU client may run a step inside its dispatch: then there is nothing to wait for afterwards.
        host.append(taken - began - waited + min(dispatched - taken, ready - dispatched) + done - ready)
        whole.append(done - began)
    began = time.perf_counter()
    jax.block_until_ready(fetch(0))
    making = time.perf_counter() - began
    overhead, seconds = statistics.median(host[2:]) + making, statistics.median(whole[2:])
    print(f"\nHost at S: {1e3 * overhead:.2f} ms ({1e3 * making:.2f} of it the batch, in a thread beside the step) "
          f"of a step of {1e3 * seconds:.0f} ms: {100 * overhead / seconds:.2f}%")  # fmt: skip


if __name__ == "__main__":
    main()
