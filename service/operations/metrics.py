"""Series of a job, made small enough to draw, as values or as a table."""

import csv
import io
from collections.abc import Sequence

from service.operations import jobs
from service.operations.context import Context
from service.storage import Point
from vishwamai.contract.api import MetricsPage, Series


def page(context: Context, job_id: str, names: Sequence[str], max_points: int) -> MetricsPage:
    """Series of the names given, or of all there are. Raises UnknownJob."""
    jobs.record(context, job_id)
    found = context.store.series(job_id, names or None)
    series = [_series(name, downsample(found.get(name, []), max_points)) for name in names or sorted(found)]
    return MetricsPage(job_id=job_id, series=series)


def table(page: MetricsPage) -> str:
    """The page as CSV: a row for each step, a column for each series, empty where one has no point."""
    rows: dict[int, dict[str, str]] = {}
    for series in page.series:
        for step, time, value in zip(series.steps, series.times, series.values, strict=True):
            row = rows.setdefault(step, {"step": str(step), "time": time.isoformat()})
            row[series.name] = repr(value)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", "time", *(series.name for series in page.series)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for _, row in sorted(rows.items()))
    return text.getvalue()


def downsample(points: Sequence[Point], max_points: int) -> list[Point]:
    """At most `max_points` (4 or more) of the points, no peak lost.

    They are the first, the last, and the least and the greatest of each of the equal shares between those two.
    """
    if len(points) <= max_points:
        return list(points)
    inner = points[1:-1]
    shares = (max_points - 2) // 2
    kept = [points[0]]
    for share in range(shares):
        part = range(len(inner) * share // shares, len(inner) * (share + 1) // shares)
        extremes = {min(part, key=lambda at: inner[at].value), max(part, key=lambda at: inner[at].value)}
        kept += [inner[at] for at in sorted(extremes)]
    return [*kept, points[-1]]


def _series(name: str, points: Sequence[Point]) -> Series:
    return Series(
        name=name,
        steps=[point.step for point in points],
        times=[point.time for point in points],
        values=[point.value for point in points],
    )
