import io

from rich.console import Console

from service.examples import examples
from vishwamai.cli import render
from vishwamai.contract.api import Goodput, Job


def shown(account):
    """The line on goodput in the page of a job."""
    job = Job.model_validate(examples()["Job"]).model_copy(update={"goodput": account})
    out = io.StringIO()
    render.job(Console(file=out, width=200), job)
    return [" ".join(line.split()) for line in out.getvalue().splitlines() if line.startswith("goodput")]


def test_where_a_jobs_time_went_is_one_line():
    seconds = {"init": 2.0, "compile": 20.0, "step": 130.0, "eval": 8.0, "other": 0.5, "between": 39.5}
    account = Goodput(wall_seconds=200.0, productive_seconds=110.0, lost_seconds=20.0, lost_steps=12, seconds=seconds)
    assert shown(account) == [
        "goodput 55% of 3m 20s (between 20%, compile 10%, lost steps 10%, eval 4%; 12 steps lost)"
    ]


def test_nothing_is_said_of_what_is_not_known():
    assert shown(None) == []
