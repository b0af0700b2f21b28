from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.order import Order, Source


def epochs(order, count, number):
    return [[order[place] for place in range(epoch * count, (epoch + 1) * count)] for epoch in range(number)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("count", [1, 50])
def test_an_epoch_visits_every_window_once(count, shuffle):
    one, two, three = epochs(Order([Source(7, count, 1.0)], 3, shuffle=shuffle), count, 3)
    assert sorted(one) == sorted(two) == sorted(three) == list(range(7, 7 + count))
    assert (one == two) is (not shuffle or count == 1)


def test_so_many_windows_that_grain_draws_their_order():
    count = 2**16
    order = Order([Source(0, count, 1.0)], 3, shuffle=True)
    (one,) = epochs(order, count, 1)
    assert sorted(one) == list(range(count))
    again = [order[place] for place in range(count, count + 100)]
    assert again != one[:100]
    assert again == [Order([Source(0, count, 1.0)], 3, shuffle=True)[place] for place in range(count, count + 100)]


def test_sources_of_a_mixture_are_not_shuffled_alike():
    order = Order([Source(0, 40, 1.0), Source(40, 40, 1.0)], 0, shuffle=True)
    drawn = [order[place] for place in range(80)]
    assert [n for n in drawn if n < 40] != [n - 40 for n in drawn if n >= 40]


@given(
    sources=st.lists(st.tuples(st.integers(1, 30), st.floats(0.01, 5.0)), min_size=2, max_size=4),
    positions=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_mixture_keeps_its_shares_everywhere(sources, positions, seed):
    """Among any first positions each source has its share to within one per source, and its epochs are whole."""
    firsts = [sum(count for count, _ in sources[:n]) for n in range(len(sources))]
    order = Order([Source(first, *source) for first, source in zip(firsts, sources, strict=True)], seed, shuffle=True)
    drawn = [order[place] for place in range(positions)]
    assert order.visited(positions).tolist() == sorted(set(drawn))
    weights = sum(weight for _, weight in sources)
    for n, (first, (count, weight)) in enumerate(zip(firsts, sources, strict=True)):
        own = [window for window in drawn if first <= window < first + count]
        assert len(own) == order.counts(positions)[n]
        assert abs(len(own) - positions * order.share(n)) <= len(sources)
        # Grain rounds weights to a hundredth of the least of them.
        assert order.share(n) == pytest.approx(weight / weights, rel=0.01)
        visits = Counter(own).values()
        assert not own or max(visits) - (min(visits) if len(visits) == count else 0) <= 1
