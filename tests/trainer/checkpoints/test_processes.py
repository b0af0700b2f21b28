"""A checkpoint of one process restored by two, and one of two by one: one launch of two processes does both."""

import os
import socket
import subprocess
import sys

from tests.trainer.checkpoints.fixtures import abstract, assert_same, make_state

WORKER = """
import os, sys
import jax, numpy as np
number, port, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
from tests.trainer.checkpoints.fixtures import abstract
from tests.trainer.checkpoints.test_processes import weights
from trainer.checkpoints import Checkpoints
from vishwamai.contract.config import CheckpointSection
events = []
checkpoints = Checkpoints(folder, CheckpointSection(), events.append)
restored = checkpoints.restore(abstract(weights(0, devices=2)))
kernel = restored.state.params["kernel"]
(mine,) = kernel.addressable_shards
assert mine.data.shape == (4, 16) and kernel.sharding.num_devices == 2
np.testing.assert_array_equal(mine.data, np.arange(128.0).reshape(8, 16)[mine.index] + 2)
next_state = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state))(restored.state)
checkpoints.save(next_state, 3, {"by": 2})
checkpoints.close()
print([(event.action, event.step) for event in events])
os._exit(0)
"""


def weights(step, devices=1):
    """Without an optimizer, whose count lies on one device of one process when made as the other tests do."""
    return make_state(step, devices=devices)._replace(opt_state=())


def test_another_number_of_processes(recorder):
    checkpoints = recorder.open()
    for step in (2, 9):
        checkpoints.save(weights(step), step, {})
    checkpoints.close()
    damaged = recorder.directory / "9" / "state" / "_METADATA"
    damaged.unlink()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", WORKER]
    # One device each, not the suite's eight.
    environ = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    running = [
        subprocess.Popen(
            [*command, str(number), str(port), str(recorder.directory)],
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], "".join(outputs[0] + outputs[1])
    # Process 0 alone sets the damaged one aside, and the other takes its word for what is left.
    assert outputs[0][0].splitlines()[-1] == "[('corrupt', 9), ('restored', 2), ('committed', 3)]"
    assert outputs[1][0].splitlines()[-1] == "[('restored', 2), ('committed', 3)]"
    restored = recorder.open().restore(abstract(weights(0)))
    assert (restored.step, restored.extra) == (3, {"by": 2})
    assert_same(restored.state, weights(3))
    assert recorder.names() == ["2", "3", "9.corrupt"]
