"""Whole lives of the trainer in this process, on a corpus of a few pages."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.trainer.jobs import tiny_job
from trainer.attempt import Attempt
from trainer.reporting import Sink
from vishwamai.contract.environment import TrainerEnvironment
from vishwamai.contract.reports import AnyEvent
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import Cause

TEXT = "".join(f"line {number}: {number * number} is {number} times {number}.\n" for number in range(600))
MODEL = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8, "mlp_dim": 32, "dropout_rate": 0.1}


def small_job(folder: Path, **sections: dict[str, Any]) -> ResolvedJob:
    """Twelve steps with dropout; evaluates every third, saves every fourth."""
    corpus = folder / "corpus.txt"
    corpus.write_text(TEXT)
    wanted: dict[str, dict[str, Any]] = {
        "model": MODEL,
        # A constant rate, so that lives of different lengths run one program, which is compiled once.
        "training": {"batch_size": 4, "max_steps": 12, "learning_rate": 1e-2, "lr_schedule": "constant"},
        "data": {"train": [str(corpus)], "eval_fraction": 0.2, "eval_batches": 2},
        "logging": {"log_every": 1, "eval_every": 3, "save_every": 4},
        "sequence": {"max_length": 32, "min_length": 4},
    }
    together: dict[str, Any] = {name: wanted.get(name, {}) | sections.get(name, {}) for name in wanted | sections}
    return tiny_job(**together)


SENTENCES = {Cause.COMPLETED, Cause.PREEMPTED, Cause.CANCELLED, Cause.NON_FINITE}
"""Ends whose message begins with a word; others may begin with the name of a setting."""


class Observer(Sink):
    """Keeps all events, and does something once: when one comes that it waits for."""

    def __init__(self, when: Callable[[AnyEvent], bool] = lambda _: False, then: Callable[[], object] = lambda: None):
        self.events: list[Any] = []
        self._when, self._then = when, then
        self._done = False

    def receive(self, event: AnyEvent) -> None:
        self.events.append(event)
        if not self._done and self._when(event):
            self._done = True
            self._then()

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.kind == kind]

    @property
    def finished(self) -> Any:
        """The last word, of which there is exactly one: a sentence, and the last line of the log."""
        (last,) = self.of("finished")
        assert self.events[-1] is last
        assert self.of("log")[-1].message == last.message
        assert last.message[0].isupper() or last.cause not in SENTENCES
        assert last.message[-1] == "." or last.cause not in SENTENCES
        return last

    def committed(self) -> list[int]:
        return [event.step for event in self.of("checkpoint") if event.action == "committed"]


def live(job: ResolvedJob, output: Path, observer: Sink, **where: Any) -> int:
    """One attempt from beginning to end; its exit code."""
    environment = TrainerEnvironment(resolved=output / "resolved.json", output=output, **where)
    return Attempt(job, environment, sinks=[observer]).live(dict(os.environ))


def losses(output: Path) -> list[tuple[str, int, float]]:
    """Kind, step and loss of every line of metrics.jsonl."""
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(row["kind"], row["step"], row["loss"]) for row in rows]
