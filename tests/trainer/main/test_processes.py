"""Two processes, one device each, against one process with two."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.trainer.jobs import tiny_job
from vishwamai.contract.environment import TrainerEnvironment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(where: TrainerEnvironment) -> subprocess.Popen[str]:
    # Each process makes the devices that it drives, not the suite's eight.
    environ = os.environ | where.write() | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", "train"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def train(folder: Path, processes: int) -> list[float]:
    """Losses of the run's steps."""
    job = tiny_job(
        mesh={"data": 2},
        micro_batch=8,
        execution={"weight_axes": ["data"], "weight_gather": "step"},
        training={"max_steps": 6, "batch_size": 4},
        logging={"eval_every": 3, "save_every": 3},
        model={"dropout_rate": 0.1},
    )
    folder.mkdir()
    resolved = folder / "job.json"
    resolved.write_text(job.model_dump_json())
    coordinator = f"127.0.0.1:{free_port()}" if processes > 1 else None
    running = [
        start(TrainerEnvironment(resolved, folder / "out", coordinator=coordinator, processes=processes, process=i))
        for i in range(processes)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0] * processes, outputs
    assert (folder / "out" / "checkpoints" / "6").is_dir()
    assert (folder / "out" / "sample.txt").is_file()
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["step"] for event in events if event["kind"] == "eval"] == [3, 6]
    return [event["loss"] for event in events if event["kind"] == "step"]


def test_two_processes_train_as_one(tmp_path):
    one, two = train(tmp_path / "one", 1), train(tmp_path / "two", 2)
    assert len(one) == 6
    # The same sums over the same two devices, once within a process and once over gloo.
    np.testing.assert_allclose(two, one, rtol=1e-6)
