"""Two processes, one device each, against one process with two."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainer.jobs import tiny_job
from vishwamai.contract.environment import TrainerEnvironment

Running = list[subprocess.Popen[str]]


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


def start_all(
    folder: Path, processes: int, reports_url: str | None = None, attempt: int = 1, **sections: Any
) -> Running:
    """The processes of one attempt, in `folder`."""
    wanted: dict[str, dict[str, Any]] = {
        "training": {"max_steps": 6, "batch_size": 4},
        "logging": {"eval_every": 3, "save_every": 3},
        "model": {"dropout_rate": 0.1},
    }
    together: dict[str, Any] = {name: wanted.get(name, {}) | sections.get(name, {}) for name in wanted | sections}
    execution = {"weight_axes": ["data"], "weight_gather": "step"}
    job = tiny_job(mesh={"data": 2}, micro_batch=8, execution=execution, **together)
    folder.mkdir(exist_ok=True)
    resolved = folder / "job.json"
    resolved.write_text(job.model_dump_json())
    where = TrainerEnvironment(resolved, folder / "out", attempt=attempt, reports_url=reports_url)
    if processes > 1:
        where = replace(where, coordinator=f"127.0.0.1:{free_port()}", processes=processes)
    return [start(replace(where, process=i)) for i in range(processes)]


def train(folder: Path, processes: int) -> list[float]:
    """Losses of the run's steps."""
    running = start_all(folder, processes)
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


def test_processes_save_and_end_together_and_one_that_hangs_is_found(tmp_path, planes):
    """Three orders, each to one of two processes: save (to the first), SIGTERM and SIGSTOP (to the second)."""
    trains, saved, evaluates, again = (threading.Event() for _ in range(4))

    def answer(report):
        for event in report["events"]:
            if event["kind"] == "step":
                (trains if report["attempt"] == 1 else again).set()
            if event.get("action") == "committed":
                saved.set()
            if event.get("phase") == "evaluating":
                evaluates.set()
        directive = "save" if trains.is_set() else "continue"
        return 200, {"accepted": True, "seq": report["seq"], "directive": directive, "request": 1}

    plane = planes(answer)
    forever: dict[str, Any] = {
        "training": {"max_steps": 1_000_000, "lr_schedule": "constant"},
        "logging": {"eval_every": 0, "save_every": 0, "log_every": 5},
        "run": {"stall_seconds": 3},
    }
    # Half the corpus is evaluated on, which takes far longer than to end it.
    evaluating = {"data": {"eval_fraction": 0.5, "eval_batches": 100_000}}
    evaluating |= {"logging": forever["logging"] | {"eval_every": 100}}
    running = start_all(tmp_path, 2, plane.address, **(forever | evaluating))
    assert saved.wait(200)
    assert evaluates.wait(200)
    running[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=100)[0] for process in running]
    assert [process.returncode for process in running] == [73, 73], outputs
    committed = [event["step"] for event in plane.events if event.get("action") == "committed"]
    assert sorted(int(path.name) for path in (tmp_path / "out/checkpoints").iterdir()) == committed
    last = plane.events[-1]
    assert (last["kind"], last["cause"], last["step"]) == ("finished", "preempted", committed[-1])
    assert committed[-1] % 100 == 0
    assert [event for event in plane.events if event["kind"] == "eval"] == []
    assert len(committed) == 2, "one for the order to save, however often it was repeated, and one for the end"
    assert "Another process was told to end at step" in last["message"]
    assert f"Stopped by SIGTERM at step {committed[-1]}, which is saved." in outputs[1]

    evaluating_nothing = {"data": evaluating["data"], "logging": forever["logging"]}  # and the same text
    running = start_all(tmp_path, 2, plane.address, attempt=2, **(forever | evaluating_nothing))
    assert again.wait(200)
    running[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert running[0].wait(60) == 72
        assert time.monotonic() - began < 2 * 3 + 1.0  # twice the limit, and a second for this machine
    finally:
        running[1].kill()
    output, _ = running[0].communicate()
    running[1].communicate()
    assert plane.events[-1]["cause"] == "stalled"
    assert "Nothing has moved for" in output
    assert "in _take_step" in output, "the threads are dumped"
