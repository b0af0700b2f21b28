import threading
import time

import pytest

from trainer.prefetch import Prefetcher


def test_steps_come_in_order_and_not_far_ahead():
    asked, lock = [], threading.Lock()

    def fetch(step):
        with lock:
            asked.append(step)
        return step * 10

    batches = Prefetcher(fetch, 5, 30)
    assert batches.peek() == batches.peek() == 50
    assert batches.ready
    for step in range(5, 31):
        batch, waited = batches.take()
        assert (batch, waited >= 0) == (step * 10, True)
        assert max(asked) <= min(step + 4, 30)
    assert sorted(asked) == list(range(5, 31))


def test_a_slow_batch_is_waited_for_and_told():
    def fetch(step):
        time.sleep(0.05)
        return step

    batches = Prefetcher(fetch, 1, 2)
    assert not batches.ready
    assert sum(waited for _, waited in (batches.take(), batches.take())) > 0.02


def test_what_goes_wrong_reaches_whoever_takes_it():
    def fetch(step):
        if step == 3:
            raise OSError("the disk is gone")
        return step

    batches = Prefetcher(fetch, 1, 5)
    assert [batches.take()[0] for _ in range(2)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        batches.take()


def test_closed_it_fetches_no_more():
    asked: list[int] = []
    batches = Prefetcher(asked.append, 1, 100)
    batches.close()
    time.sleep(0.05)
    assert len(asked) <= 4
    assert Prefetcher(lambda step: step, 7, 7).take()[0] == 7
