"""Times peers turn by turn, A B A B, so that whatever else the machine does falls on all of them alike."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reading:
    """What one peer showed."""

    peer: str
    compile_seconds: float
    temporary_mib: float | None
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    loss: float = float("nan")

    @property
    def median(self) -> float:
        """Seconds of the middle step."""
        return statistics.median(self.seconds)


class Worker:
    """A peer's process."""

    def __init__(self, peer: str, shape: str, xla_flags: str) -> None:
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags, "TF_CPP_MIN_LOG_LEVEL": "2"}
        command = [sys.executable, "-m", "bench.worker", peer, shape]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._peer = peer
        ready = self._read()
        self.reading = Reading(peer, ready["compile_seconds"], ready["temporary_mib"])

    def run(self, steps: int, *, counts: bool = True) -> None:
        """Does some steps; `counts` False warms up."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        answer = self._read()
        self.reading.peak_mib, self.reading.loss = answer["peak_mib"], answer["loss"]
        if counts:
            self.reading.seconds += answer["seconds"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer {self._peer} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def interleave(peers: list[str], shape: str, *, rounds: int, steps: int, xla_flags: str = "") -> list[Reading]:
    """Readings of each peer over `rounds` turns of `steps` steps, after one to warm up."""
    workers = [Worker(peer, shape, xla_flags) for peer in peers]
    for worker in workers:
        worker.run(1, counts=False)
    for _ in range(rounds):
        for worker in workers:
            worker.run(steps)
    for worker in workers:
        worker.close()
    return [worker.reading for worker in workers]
