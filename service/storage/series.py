"""Metrics over steps, put together from all attempts.

An attempt that resumed at step s trains s + 1, s + 2, ... anew: what earlier attempts wrote beyond s is superseded.
Rows are not deleted for this; the reader keeps of attempt a the steps up to the least resume point of later attempts.
"""

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, RowMapping, Table, delete, func, select, tuple_

from service.storage.tables import attempts, evals, steps
from vishwamai.contract.config import MAIN_SET

STEP_METRICS = (
    "loss",
    "grad_norm",
    "learning_rate",
    "tokens",
    "tokens_per_second",
    "step_seconds",
    "data_wait_seconds",
)
EVAL_METRICS = ("loss", "perplexity", "bits_per_byte")


class Point(NamedTuple):
    """A metric's value at one step."""

    step: int
    time: datetime
    value: float


def read(connection: Connection, job_id: str, names: Collection[str] | None) -> dict[str, list[Point]]:
    """Points by rising step of the metrics named, or of all.

    Those of evaluations are called eval_loss and so on; of a set with a name of its own, eval_<name>_loss. The parts of
    a loss are series beside the others, under their own names.
    """
    limits = _last_valid_steps(connection, job_id)
    found: dict[str, list[Point]] = {}

    def keep(name: str, row: RowMapping, value: float | None) -> None:
        if value is not None and math.isfinite(value) and (names is None or name in names):
            found.setdefault(name, []).append(Point(row["step"], row["time"], float(value)))

    for row in _valid_rows(connection, steps, job_id, limits):
        for name in STEP_METRICS:
            keep(name, row, row[name])
        for name, value in (row["parts"] or {}).items():
            keep(name, row, value)
    if names is None or not set(names) <= set(STEP_METRICS):
        for row in _valid_rows(connection, evals, job_id, limits):
            for metric in EVAL_METRICS:
                keep(f"{_of_set(row['name'])}_{metric}", row, row[metric])
    return found


def _of_set(name: str) -> str:
    return name if name == MAIN_SET else f"{MAIN_SET}_{name}"


def thin(connection: Connection, job_id: str, most: int) -> None:
    """Where a job has more than `most` logged steps, drops every other one: the older, the wider apart."""
    mine = select(steps.c.attempt, steps.c.step).where(steps.c.job_id == job_id)
    if (connection.scalar(select(func.count()).select_from(mine.subquery())) or 0) <= most:
        return
    place = func.row_number().over(order_by=(steps.c.attempt, steps.c.step)).label("place")
    numbered = mine.add_columns(place).subquery()
    dropped = select(numbered.c.attempt, numbered.c.step).where(numbered.c.place % 2 == 0)
    connection.execute(
        delete(steps).where(steps.c.job_id == job_id, tuple_(steps.c.attempt, steps.c.step).in_(dropped))
    )


def _valid_rows(connection: Connection, table: Table, job_id: str, limits: Mapping[int, float]) -> list[Any]:
    query = select(table).where(table.c.job_id == job_id).order_by(table.c.step, table.c.attempt)
    return [row for row in connection.execute(query).mappings() if row["step"] <= limits[row["attempt"]]]


def _last_valid_steps(connection: Connection, job_id: str) -> dict[int, float]:
    """By attempt, the last step that no later attempt has trained anew."""
    query = select(attempts.c.number, attempts.c.first_step).where(attempts.c.job_id == job_id)
    limits: dict[int, float] = {}
    limit = math.inf
    for number, first_step in connection.execute(query.order_by(attempts.c.number.desc())):
        limits[number] = limit
        if first_step is not None:
            limit = min(limit, first_step - 1)
    return limits
