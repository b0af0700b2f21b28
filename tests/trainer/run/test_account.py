"""Faults that cost time show in the account of the attempt, under their own names and no other."""

import threading
import time

import pytest

from tests.trainer.run.lives import Observer, live, small_job
from trainer.evaluate import Evaluator
from trainer.run import Run

SLOW_STEPS = range(2, 13)
PAUSE = 0.3
"""Seconds; hundreds of times what a step of this job takes."""


def test_slow_data_and_slow_evaluation_are_called_by_their_names(tmp_path, monkeypatch):
    evaluate = Evaluator.evaluate

    def slow(*arguments, **named):
        time.sleep(2 * PAUSE)
        return evaluate(*arguments, **named)

    fetch, one_at_a_time = Run._fetch, threading.Lock()

    def late(run, number):
        if number in SLOW_STEPS:
            with one_at_a_time:
                time.sleep(PAUSE)
        return fetch(run, number)

    monkeypatch.setattr(Run, "_fetch", late)
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
    # Batches are made ahead, one after another, so all other things that happen meanwhile hide a part of their making;
    # the second more is for a busy machine.
    slow_for = len(SLOW_STEPS) * PAUSE
    hidden = sum(spent[state] for state in ("compile", "step", "eval", "save_stall", "other"))
    assert slow_for - hidden <= spent["data_wait"] <= slow_for + 1.0
    assert 2 * 2 * PAUSE <= spent["eval"] <= 2 * 2 * PAUSE + 2.0
    assert spent["step"] <= 1.0
