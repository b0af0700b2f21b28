import io
import logging

import pytest

from tests.trainer.reporting.events import committed, eval_event, step_event
from trainer.reporting import Reporter, now
from trainer.reporting.console import Console, duration, thousands
from trainer.reporting.logs import LONGEST_MESSAGE, routed_logs
from vishwamai.contract.reports import FinishedEvent, LogEvent
from vishwamai.contract.states import Cause


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (step_event(120), "step 120/400  loss 2.5000  lr 1.00e-03  18.2k tok/s  eta 1:10"),
        (eval_event(120), "eval 120/400  loss 2.0000  perplexity 7.4  (512 tokens, 0.5 s)"),
        (committed(120), "saved step 120  3.2MB  0.4 s"),
        (LogEvent(time=now(), message="hello"), "hello"),
        (LogEvent(time=now(), level="warning", message="careful"), "warning: careful"),
        (FinishedEvent(time=now(), cause=Cause.USER_ERROR, step=0, message="no such file"), "error: no such file"),
        (FinishedEvent(time=now(), cause=Cause.PREEMPTED, step=9, message="by SIGTERM"), "stopped: by SIGTERM"),
        (FinishedEvent(time=now(), cause=Cause.COMPLETED, step=400, message="well"), "finished: well"),
    ],
)
def test_one_event_is_one_line(event, line):
    stream = io.StringIO()
    Console(stream, 400).receive(event)
    assert stream.getvalue() == line + "\n"


def test_numbers_are_short():
    assert [thousands(n) for n in (0, 999, 18_234, 5_900_000)] == ["0", "999", "18.2k", "5.9M"]
    assert [duration(s) for s in (0, 42, 61, 3723.4)] == ["0:00", "0:42", "1:01", "1:02:03"]


def test_logging_reaches_the_reporter_and_libraries_keep_quiet():
    stream = io.StringIO()
    with routed_logs(Reporter([Console(stream, 1)])):
        logging.getLogger("trainer.somewhere").info("one %d", 1)
        logging.getLogger("trainer.somewhere").debug("not this")
        logging.getLogger("absl").warning("nor this")
        logging.getLogger("jax._src.xla_bridge").warning("nor this")
        logging.getLogger("trainer.somewhere").error("x" * 100_000)
        try:
            raise KeyError("k")
        except KeyError:
            logging.getLogger("trainer.somewhere").exception("failed")
    first, long, *trace = stream.getvalue().splitlines()
    assert first == "one 1"
    assert len(long) < LONGEST_MESSAGE + 50
    assert trace[0] == "error: failed"
    assert trace[-1] == "KeyError: 'k'"
