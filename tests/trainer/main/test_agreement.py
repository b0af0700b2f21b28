"""Processes played by one: each has its own orders, and the step returns the largest of what they say."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.jobs import tiny_job
from trainer.agreement import Agreement
from trainer.mesh import make_mesh
from trainer.orders import EndOrder, Ordered, Orders
from vishwamai.contract.states import Cause

MESH = make_mesh(tiny_job(mesh={"data": 2}))
SAVE, STOP, TERM, FENCED = "save", "stop", "term", "fenced"


def ask(orders, what):
    if what == SAVE:
        orders.ask_save()
    elif what == STOP:
        orders.ask_end(Cause.CANCELLED, "Cancelled on request")
    elif what == TERM:
        orders.ask_end(Cause.PREEMPTED, "Stopped by SIGTERM")
    else:
        orders.ask_end(Cause.CANCELLED, "Another attempt has taken over", save=False)


def said(agreement):
    """The number that a process gives the step, the same on each of its devices."""
    voice = agreement.voice()
    assert voice is not None
    (number,) = set(np.asarray(voice).tolist())
    return number


def play(asked, steps=12):
    """What each process does, as (after which step, what): `asked` has (step, process, what) of orders."""
    orders = [Orders() for _ in range(3)]
    group = [Agreement(one, MESH) for one in orders]
    for one in group:
        one.alone = False
    done: list[list[tuple[int, object]]] = [[], [], []]
    for step in range(1, steps + 1):
        for at, process, what in asked:
            if at == step:
                ask(orders[process], what)
        heard = max(said(one) for one in group)
        for number, one in enumerate(group):
            one.sent(jax.numpy.int32(heard))
            if one.take_save():
                done[number].append((step, SAVE))
        ended = []
        for number, one in enumerate(group):
            try:
                one.check()
            except Ordered as order:
                done[number].append((step, (order.cause, order.save, one.may_save(order))))
                ended.append(number)
        assert ended in ([], [0, 1, 2])
        if ended:
            break
    return done


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2), st.sampled_from([SAVE, STOP, TERM, FENCED])), max_size=6)
)
def test_all_do_the_same_after_the_same_step(asked):
    first, second, third = play(asked)
    assert first == second == third
    if ends := [step for step, _, what in asked if what != SAVE]:
        assert first[-1][0] == min(ends) + 1, "after the step behind the one that the order was sent with"
    elif asked:
        assert [what for _, what in first] == [SAVE] * len({step for step, _, _ in asked})


def test_an_order_to_save_is_obeyed_once():
    assert play([(3, 1, SAVE)])[0] == [(4, SAVE)]


def test_the_cause_travels_and_whoever_was_asked_says_so():
    orders = [Orders(), Orders()]
    told, other = group = [Agreement(one, MESH) for one in orders]
    for one in group:
        one.alone = False
    ask(orders[0], STOP)
    for heard in (said(told), said(other)):
        for one in group:
            one.sent(jax.numpy.int32(heard))
    with pytest.raises(Ordered, match="Cancelled on request") as first:
        told.check()
    with pytest.raises(Ordered, match="Another process was told to end") as second:
        other.check()
    assert first.value.cause is second.value.cause is Cause.CANCELLED
    assert first.value.agreed


def test_an_end_on_its_own_saves_only_where_there_is_no_other_process():
    orders = Orders()
    agreement = Agreement(orders, MESH)
    order = Ordered(EndOrder(Cause.PREEMPTED, "Stopped by SIGTERM"))
    assert agreement.may_save(order)
    ask(orders, FENCED)
    assert not agreement.may_save(order), "the newer order forbids it"
    agreement.alone = False
    assert not agreement.may_save(order)
