from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.goodput import goodput, lost_of
from service.records import AttemptRecord
from tests.service.reconcile.world import START, ended, job, live
from vishwamai.contract.reports import GoodputEvent
from vishwamai.contract.states import Cause


def at(seconds):
    return START + timedelta(seconds=seconds)


def account(done, wall, **seconds):
    return GoodputEvent(time=at(wall), step=done, wall_seconds=sum(seconds.values()), seconds=seconds)


def test_steps_that_are_taken_again_are_lost():
    """A killed attempt of 40 steps in 80 s resumes from step 30, so a quarter of its steps counts for nothing."""
    killed = ended(
        1, Cause.HOST_ERROR, first_step=1, last_step=40, at=at(100), goodput=account(40, 97, init=5, step=80)
    )
    second = live(2, resumed_from=30, first_step=31, last_step=50, goodput=account(50, 150, compile=3, step=40))
    found = goodput(job(killed, second))
    assert found is not None
    assert (found.lost_steps, found.lost_seconds, found.productive_seconds) == (10, 20.0, 100.0)
    assert found.wall_seconds == 150.0
    assert found.seconds == {"init": 5, "step": 120, "compile": 3, "between": 22}


def test_an_attempt_that_began_anew_costs_all_that_went_before():
    lives = [ended(1, Cause.STALLED, first_step=1, last_step=40), live(2, first_step=1)]
    assert lost_of(job(*lives), lives[0]) == 40


def test_what_is_lost_is_known_when_a_later_attempt_has_its_start():
    first = ended(1, Cause.PREEMPTED, first_step=1, last_step=40)
    assert lost_of(job(first), first) is None
    assert lost_of(job(first, live(2)), first) is None
    idle = ended(2, Cause.HOST_ERROR)
    lives = (first, idle, live(3, resumed_from=40, first_step=41))
    assert [lost_of(job(*lives), one) for one in lives] == [0, 0, None]


def test_nothing_is_said_before_a_trainer_has():
    assert goodput(job()) is None
    assert goodput(job(live())) is None


@given(
    lives=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 30), st.floats(0, 1e6), st.floats(0, 1e4)), min_size=1, max_size=6
    )
)
def test_the_categories_are_the_wall_time_whatever_happens(lives):
    attempts: list[AttemptRecord] = []
    for number, (trained, back, steps, other) in enumerate(lives, 1):
        resumed = max(0, (attempts[-1].last_step or 0 if attempts else 0) - back) or None
        last = (resumed or 0) + trained
        goodput_of = account(last, 10.0 * number, step=steps, eval=other)
        end = at(10.0 * number + steps)
        attempts.append(
            ended(
                number, Cause.HOST_ERROR, last_step=last, resumed_from=resumed, first_step=1, at=end, goodput=goodput_of
            )
        )
    found = goodput(job(*attempts))
    assert found is not None
    # Sums of a dozen float64.
    assert sum(found.seconds.values()) == pytest.approx(found.wall_seconds, rel=1e-12)
    assert -1e-6 <= found.productive_seconds <= found.seconds["step"]
    assert min(found.seconds.values()) >= 0
