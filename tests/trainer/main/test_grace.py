from trainer.goodput import Account
from trainer.grace import Grace
from vishwamai.contract.reports import NoticeEvent


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def with_steps_of(seconds):
    """An account of five such steps."""
    clock = Clock()
    account = Account(clock)
    for _ in range(5):
        with account.spent("step"):
            clock.now += seconds
    return account


def test_a_save_that_cannot_make_it_is_said_once_and_taken_back_when_it_can():
    told: list[NoticeEvent] = []
    grace = Grace(30.0, with_steps_of(4.0), told.append)
    assert grace.needed() == 0.0
    for seconds in (20.0, 27.0, 28.0):
        grace.saved(seconds)
    [event] = told
    assert event.holds
    assert event.notice.pointer == "/run/grace_seconds"
    assert "takes about 31.0 s, and run.grace_seconds leaves 30 s" in event.notice.message
    for _ in range(5):
        grace.saved(1.0)
    assert [event.holds for event in told] == [True, False]


def test_processes_that_must_agree_need_two_steps_more():
    grace = Grace(30.0, with_steps_of(4.0), lambda _: None, alone=False)
    grace.saved(10.0)
    assert grace.needed() == 22.0
