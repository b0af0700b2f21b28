from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.operations.metrics import downsample
from service.storage import Point

START = datetime(2026, 11, 23, tzinfo=UTC)
values = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=300)


@given(values=values, max_points=st.integers(4, 50))
def test_downsampling_keeps_order_ends_and_extremes(values, max_points):
    points = [Point(n, START + timedelta(seconds=n), value) for n, value in enumerate(values)]
    kept = downsample(points, max_points)
    assert len(kept) <= max_points
    assert [point.step for point in kept] == sorted({point.step for point in kept})
    assert set(kept) <= set(points)
    if len(points) <= max_points:
        assert kept == points
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
        assert max(point.value for point in kept) == max(values)
        assert min(point.value for point in kept) == min(values)


@given(size=st.integers(100, 2000), max_points=st.integers(10, 100))
def test_downsampling_uses_most_of_what_is_allowed(size, max_points):
    points = [Point(n, START, float(n * 7919 % 1000)) for n in range(size)]
    assert len(downsample(points, max_points)) >= max_points // 2
