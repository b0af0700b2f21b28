import json
import resource
import signal

import pytest

from tests.trainer.reporting.events import eval_event, step_event
from trainer.reporting import Reporter, Sink, now
from trainer.reporting.journal import Journal
from vishwamai.contract.reports import LogEvent, SampleEvent


class Ears(Sink):
    def __init__(self):
        self.heard = []

    def receive(self, event):
        self.heard.append(event)


def rows(folder, name="metrics.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_each_kind_of_event_has_its_file(tmp_path):
    journal = Journal(tmp_path, attempt=3)
    journal.receive(step_event(1, loss=5.5))
    journal.receive(eval_event(1, loss=5.25))
    journal.receive(LogEvent(time=now(), message="grüß Gott"))
    journal.receive(SampleEvent(time=now(), step=1, prompt="def ", text="main():"))
    journal.close()
    step, evaluation = rows(tmp_path)
    assert (step["kind"], step["step"], step["loss"], step["attempt"]) == ("step", 1, 5.5, 3)
    assert (evaluation["kind"], evaluation["step"], evaluation["loss"]) == ("eval", 1, 5.25)
    assert [row["kind"] for row in rows(tmp_path, "log.jsonl")] == ["log", "sample"]
    assert rows(tmp_path, "log.jsonl")[0]["message"] == "grüß Gott"
    assert (tmp_path / "sample.txt").read_text() == "def main():\n"


def test_a_new_life_forgets_the_steps_it_will_take_again(tmp_path):
    first = Journal(tmp_path)
    for step in (1, 2, 3, 4):
        first.receive(step_event(step, loss=float(step)))
    first.receive(eval_event(2))
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b"\0\0\0\n[1]\nnull\n")  # the machine crashed
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')  # killed while writing
    first.close()
    second = Journal(tmp_path, attempt=2)
    second.resume(2, 2)
    second.receive(step_event(3, loss=30.0))
    second.close()
    assert [(row["kind"], row["step"], row["loss"]) for row in rows(tmp_path)] == [
        ("step", 1, 1.0),
        ("step", 2, 2.0),
        ("eval", 2, 2.0),
        ("step", 3, 30.0),
    ]


@pytest.fixture
def small_files():
    """No file may grow beyond 1000 bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_costs_lines_and_neither_their_neighbours_nor_the_run(tmp_path, small_files):
    ears = Ears()
    reporter = Reporter([Journal(tmp_path), ears], 20)
    for step in range(1, 20):
        reporter.tell(step_event(step))
    written = rows(tmp_path)
    assert 0 < len(written) < 19
    assert [row["step"] for row in written] == list(range(1, len(written) + 1))
    reporter.close()
    warnings = [event.message for event in ears.heard if event.kind == "log"]
    assert len([message for message in warnings if "Journal cannot write" in message]) == 1
    assert len([event for event in ears.heard if event.kind == "step"]) == 19


def test_an_evaluation_that_will_be_made_again_is_forgotten(tmp_path):
    """A life that SIGTERM interrupts while it evaluates saves that step, and the next one evaluates it first."""
    first = Journal(tmp_path)
    for event in (step_event(3), eval_event(3), step_event(6), eval_event(6)):
        first.receive(event)
    first.close()
    second = Journal(tmp_path, attempt=2)
    second.resume(6, 3)
    second.close()
    assert [(row["kind"], row["step"]) for row in rows(tmp_path)] == [("step", 3), ("eval", 3), ("step", 6)]
