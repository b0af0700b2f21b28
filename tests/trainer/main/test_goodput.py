import threading
import time
from typing import Any

import pytest

from trainer.goodput import Account
from trainer.watchdog import Watchdog, thread_dump


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_every_moment_belongs_to_the_innermost_state():
    clock = Clock()
    account = Account(clock)
    clock.now += 2
    account.goes_on_as("other")
    with account.spent("step"):
        clock.now += 3
        with account.spent("data_wait"):
            clock.now += 5
        clock.now += 7
    clock.now += 11

    def fail():
        with account.spent("eval"):
            clock.now += 13
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert account.state == "other"
    assert account.seconds() == {"init": 2, "step": 10, "data_wait": 5, "other": 11, "eval": 13}
    assert sum(account.seconds().values()) == account.wall_seconds() == 41
    assert account.median_step == 15, "a step's length has its waits in it"


def test_looking_is_no_sign_of_life():
    account = Account()
    changes = account.changes
    account.seconds()
    assert account.changes == changes


@pytest.fixture
def watched():
    """A watchdog of one second over an account with three quick steps, and what it said and did."""
    account, left = Account(), threading.Event()
    said: list[Any] = []

    def leave(code):
        said.append(code)
        left.set()

    for _ in range(3):
        with account.spent("step"):
            pass
    return account, said, left, Watchdog(account, 1.0, said.append, leave)


def test_a_step_that_does_not_end_is_ended(watched, caplog):
    account, said, left, watchdog = watched
    with watchdog, account.spent("step"):
        began = time.monotonic()
        assert left.wait(20)
        assert time.monotonic() - began >= 1.0
    (why, code) = said
    assert code == 72
    assert "the state being step" in why
    assert "in test_a_step_that_does_not_end_is_ended" in caplog.text
    assert "the devices: " in caplog.text


def test_signs_of_life_and_states_other_than_steps_are_given_their_time(watched):
    account, said, left, watchdog = watched
    assert watchdog.limit() == 3600.0, "nothing is known to be a step"
    with watchdog:
        for _ in range(8):
            with account.spent("step"):
                time.sleep(0.2)
        with account.spent("eval"):
            assert not left.wait(1.5)
    assert said == []


def test_the_limit_follows_the_steps():
    clock = Clock()
    account = Account(clock)
    watchdog = Watchdog(account, 600.0, lambda _: None)
    for seconds in (1, 100, 100, 100, 5000):
        with account.spent("step"):
            clock.now += seconds
    with account.spent("step"):
        assert watchdog.limit() == 1000.0
    with account.spent("compile"):
        assert watchdog.limit() == 7200.0


def test_a_dump_names_every_thread():
    wait = threading.Event()

    def hang_here():
        wait.wait(60)

    thread = threading.Thread(target=hang_here)
    thread.start()
    try:
        dump = thread_dump()
    finally:
        wait.set()
        thread.join()
    assert "in hang_here" in dump
    assert "in test_a_dump_names_every_thread" in dump
