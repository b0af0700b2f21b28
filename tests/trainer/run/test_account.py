"""Faults that cost time show in the account of the attempt, under their own names and no other."""

import time

import pytest

from tests.trainer.run.lives import Observer, live, small_job
from trainer.data import open_data
from trainer.evaluate import Evaluator

SLOW_STEPS = range(5, 10)
PAUSE = 0.3
"""Seconds; hundreds of times what a step of this job takes."""


class SlowData:
    """Some batches come late."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def batch(self, step):
        if step in SLOW_STEPS:
            time.sleep(PAUSE)
        return self.inner.batch(step)


def test_slow_data_and_slow_evaluation_are_called_by_their_names(tmp_path, monkeypatch):
    evaluate = Evaluator.evaluate

    def slow(*arguments, **named):
        time.sleep(2 * PAUSE)
        return evaluate(*arguments, **named)

    monkeypatch.setattr("trainer.run.open_data", lambda job: SlowData(open_data(job)))
    monkeypatch.setattr(Evaluator, "evaluate", slow)
    observer, began = Observer(), time.monotonic()
    job = small_job(tmp_path, logging={"eval_every": 6, "save_every": 4})
    assert live(job, tmp_path / "output", observer) == 0
    wall = time.monotonic() - began
    account = observer.of("goodput")[-1]
    spent = account.seconds

    assert account.step == 12
    assert sum(spent.values()) == pytest.approx(account.wall_seconds, rel=0.01)
    assert account.wall_seconds <= wall
    assert account.wall_seconds == pytest.approx(wall, rel=0.05, abs=0.5)  # told just before the end
    assert spent.keys() == {"init", "restore", "compile", "data_wait", "step", "eval", "save_stall", "other"}
    # One batch is made ahead, during a step, an evaluation or a save, which hides two pauses at most; the second more is
    # for a busy machine, and for compiling what evaluates.
    late = len(SLOW_STEPS) * PAUSE
    assert late - 2 * PAUSE <= spent["data_wait"] <= late + 1.0
    assert 2 * 2 * PAUSE <= spent["eval"] <= 2 * 2 * PAUSE + 2.0
    assert spent["step"] <= 1.0
