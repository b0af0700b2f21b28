import io
import logging

import pytest

from tests.trainer.reporting.events import committed, eval_event, step_event
from trainer.reporting import Reporter, Sink, now
from trainer.reporting.console import Console
from trainer.reporting.lines import LONGEST_LINE, duration, thousands
from trainer.reporting.logs import routed_logs
from vishwamai.contract.reports import CheckpointEvent, FinishedEvent, LogEvent, PhaseEvent, SampleEvent
from vishwamai.contract.states import Cause


class Ears(Sink):
    def __init__(self):
        self.heard = []

    def receive(self, event):
        self.heard.append(event)


def about_checkpoint(action, message=None):
    return CheckpointEvent(time=now(), action=action, step=8, path="/c/8", message=message)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (step_event(120), "step 120/400  loss 2.5000  lr 1.00e-03  18.2k tok/s  eta 1:10"),
        (eval_event(120), "eval 120/400  loss 2.0000  perplexity 7.4  (512 tokens, 0.5 s)"),
        (
            eval_event(120, name="wiki", bits_per_byte=0.75),
            "eval wiki 120/400  loss 2.0000  perplexity 7.4  bits/byte 0.7500  (512 tokens, 0.5 s)",
        ),
        (committed(120), "saved step 120  3.2MB  0.4 s"),
        (LogEvent(time=now(), message="hello"), "hello"),
        (LogEvent(time=now(), level="warning", message="careful"), "warning: careful"),
        (FinishedEvent(time=now(), cause=Cause.USER_ERROR, step=0, message="no such file"), "error: no such file"),
        (FinishedEvent(time=now(), cause=Cause.PREEMPTED, step=9, message="Stopped."), "Stopped."),
        (FinishedEvent(time=now(), cause=Cause.COMPLETED, step=400, message="Trained."), "Trained."),
        (PhaseEvent(time=now(), phase="compiling", step=0, message="compiling"), "compiling"),
        (about_checkpoint("corrupt", "state/d/1 is missing"), "warning: state/d/1 is missing"),
        (about_checkpoint("deleted", "set aside"), "checkpoint of step 8: set aside"),
    ],
)
def test_one_event_is_one_line_and_everybody_gets_it_ahead_of_the_event(event, line):
    stream, ears = io.StringIO(), Ears()
    Reporter([Console(stream), ears], 400).tell(event)
    assert stream.getvalue() == line + "\n"
    said = ears.heard[0]
    assert line == said.message if said.level == "info" else f"{said.level}: {said.message}"
    assert ears.heard[1:] == ([] if isinstance(event, LogEvent) else [event])


@pytest.mark.parametrize("event", [PhaseEvent(time=now(), phase="saving", step=8), about_checkpoint("deleted")])
def test_what_goes_on_all_the_time_is_no_line(event):
    ears = Ears()
    Reporter([ears], 400).tell(event)
    assert ears.heard == [event]


def test_a_text_of_several_lines_is_as_many_and_steers_no_terminal():
    stream = io.StringIO()
    text = "main():\n\x1b[2J\treturn\x07 \x9b1\r"
    Reporter([Console(stream)], 400).tell(SampleEvent(time=now(), step=1, prompt="def ", text=text))
    assert stream.getvalue() == "sample:\n    def main():\n    \ufffd[2J\treturn\ufffd \ufffd1\n"


def test_numbers_are_short():
    assert [thousands(n) for n in (0, 999, 18_234, 5_900_000)] == ["0", "999", "18.2k", "5.9M"]
    assert [duration(s) for s in (0, 42, 61, 3723.4)] == ["0:00", "0:42", "1:01", "1:02:03"]


def test_logging_reaches_the_reporter_and_libraries_keep_quiet():
    stream = io.StringIO()
    with routed_logs(Reporter([Console(stream)], 1)):
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
    assert len(long) < LONGEST_LINE + 50
    assert trace[0] == "error: failed"
    assert trace[-1] == "error: KeyError: 'k'"
