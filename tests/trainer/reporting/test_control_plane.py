import json
import threading

import pytest

from tests.trainer.reporting.control_planes import FakeControlPlane
from trainer.orders import Orders
from trainer.reporting import now
from trainer.reporting.control_plane import ControlPlane, Timing
from trainer.reporting.spool import Entry, Spool
from vishwamai.contract.reports import LogEvent
from vishwamai.contract.states import Cause

FAST = Timing(batch=0.01, heartbeat=3600.0, first_retry=0.01, longest_retry=0.05, close=10.0)


def said(message: str) -> LogEvent:
    return LogEvent(time=now(), message=message)


def messages(plane: FakeControlPlane) -> list[str]:
    return [event["message"] for event in plane.events]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "reports"


@pytest.fixture
def make(folder):
    """Makes sinks for a plane; all are closed at the end."""
    made = []

    def make(plane, *, attempt=1, orders=None, timing=FAST, **more):
        sink = ControlPlane(plane.address, orders or Orders(), Spool(folder), attempt=attempt, timing=timing, **more)
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


def test_events_arrive_in_order_in_numbered_batches(make, planes):
    plane = planes()
    sink = make(plane, timing=Timing(batch=0.2))
    for number in range(450):
        sink.receive(said(str(number)))
    sink.close()
    assert messages(plane) == [str(number) for number in range(450)]
    assert [report["seq"] for report in plane.reports] == list(range(1, len(plane.reports) + 1))
    assert {report["attempt"] for report in plane.reports} == {1}
    assert len(plane.reports) < 10


def test_the_token_is_read_from_its_file_for_every_report(make, planes, tmp_path):
    plane, token = planes(), tmp_path / "token"
    token.write_text("first\n")
    sink = make(plane, token_file=token)
    sink.receive(said("one"))
    plane.wait_until(lambda: len(plane.reports) == 1)
    token.write_text("second\n")
    sink.receive(said("two"))
    plane.wait_until(lambda: len(plane.reports) == 2)
    assert plane.tokens == {"Bearer first", "Bearer second"}


def test_a_heartbeat_brings_orders_while_there_is_nothing_to_say(make, planes):
    orders = Orders()
    plane = planes(lambda report: (200, {"accepted": True, "seq": report["seq"], "directive": "save"}))
    make(plane, orders=orders, timing=Timing(batch=0.01, heartbeat=0.02))
    plane.wait_until(lambda: len(plane.reports) >= 2)
    assert plane.events == []
    assert [report["seq"] for report in plane.reports[:2]] == [1, 2]
    assert orders.take_save()
    assert orders.end is None


@pytest.mark.parametrize("save", [True, False])
def test_stop_becomes_an_order_to_end_as_cancelled(make, planes, save):
    orders = Orders()
    answer = {"accepted": True, "directive": "stop", "save": save}
    plane = planes(lambda report: (200, answer | {"seq": report["seq"]}))
    make(plane, orders=orders).receive(said("hello"))
    end = orders_end(orders)
    assert (end.cause, end.save) == (Cause.CANCELLED, save)


def orders_end(orders):
    never = threading.Event()
    with pytest.raises(Exception, match=r"Cancelled|taken over"):
        orders.wait_for(lambda: never.wait(30))
    return orders.end


def test_an_outage_loses_nothing_and_repeats_nothing(make, planes, folder):
    plane = planes()
    sink = make(plane)
    sink.receive(said("before"))
    plane.wait_until(lambda: messages(plane) == ["before"])
    plane.stop()
    for number in range(5):
        sink.receive(said(f"during {number}"))
        wait_for_files(folder, number + 1)
    plane.start()
    sink.receive(said("after"))
    plane.wait_until(lambda: "after" in messages(plane))
    assert messages(plane) == ["before", *(f"during {number}" for number in range(5)), "after"]
    sequence = [report["seq"] for report in plane.reports]
    assert sequence == sorted(set(sequence))
    sink.close()
    assert list(folder.iterdir()) == []


def wait_for_files(folder, count):
    """The sink's own retries put them there."""
    pause = threading.Event()
    for _ in range(3000):
        if len(list(folder.glob("attempt-*.json"))) >= count:
            return
        pause.wait(0.01)
    raise AssertionError(f"{count} reports never came to be on disk")


def test_a_report_whose_answer_was_lost_is_sent_again_under_its_own_number(make, planes):
    failures = iter([503, 500, 429])
    tries = []

    def fail_at_first(report):
        tries.append(report["seq"])
        status = next(failures, None)
        return (status, {}) if status else None

    plane = planes(fail_at_first)
    sink = make(plane)
    sink.receive(said("once"))
    plane.wait_until(lambda: len(plane.reports) == 1)
    assert tries == [1, 1, 1, 1]
    assert messages(plane) == ["once"]


def test_what_one_attempt_could_not_deliver_the_next_one_does(make, planes, folder):
    plane = planes()
    plane.stop()
    first = make(plane, attempt=1, timing=Timing(batch=0.01, first_retry=0.01, close=0.05))
    first.receive(said("last words"))
    first.close()
    assert [path.name for path in folder.iterdir()] == ["attempt-000001-0000000001.json"]
    plane.start()
    second = make(plane, attempt=2)
    second.receive(said("first words"))
    plane.wait_until(lambda: len(plane.reports) == 2)
    assert [(report["attempt"], report["seq"]) for report in plane.reports] == [(1, 1), (2, 1)]
    assert messages(plane) == ["last words", "first words"]
    second.close()
    assert list(folder.iterdir()) == []


def test_late_reports_of_an_older_attempt_are_dropped_when_refused(make, planes, folder):
    folder.mkdir()
    (folder / "attempt-000001-0000000007.json").write_text(json.dumps({"attempt": 1, "seq": 7, "events": []}))
    orders = Orders()
    plane = planes(lambda report: (409, {}) if report["attempt"] == 1 else None)
    sink = make(plane, attempt=2, orders=orders)
    sink.receive(said("mine"))
    plane.wait_until(lambda: messages(plane) == ["mine"])
    sink.close()
    assert orders.end is None
    assert list(folder.iterdir()) == []


def test_an_attempt_that_was_overtaken_ends_without_saving(make, planes):
    orders = Orders()
    plane = planes(lambda report: (409, {}))
    sink = make(plane, orders=orders)
    sink.receive(said("hello?"))
    end = orders_end(orders)
    assert not end.save
    assert "taken over" in end.message
    sink.close()
    assert plane.reports == []


@pytest.mark.parametrize("status", [401, 403, 422])
def test_a_refusal_is_warned_of_once_and_ends_nothing(make, planes, caplog, status):
    seen = []
    orders = Orders()

    def refuse(report):
        seen.append(report)
        return status, {"detail": "no"}

    plane = planes(refuse)
    sink = make(plane, orders=orders)
    for number in range(3):
        sink.receive(said(str(number)))
        plane.wait_until(lambda wanted=number + 1: len(seen) == wanted)
    sink.close()
    assert orders.end is None
    assert [record.message for record in caplog.records if str(status) in record.message] == [
        f'the control plane refuses reports with status {status}: {{"detail": "no"}}; '
        "training goes on, its progress will not be seen there"
    ]


def test_the_spool_is_bounded_and_the_oldest_go(tmp_path):
    spool = Spool(tmp_path, limit_bytes=1000)
    for seq in range(1, 11):
        spool.add(Entry(1, seq, b"x" * 300))
        spool.write()
    assert spool.dropped == 7
    assert spool.first is not None
    assert spool.first.seq == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"attempt-000001-{seq:010}.json" for seq in (8, 9, 10)]
    again = Spool(tmp_path, limit_bytes=1000)
    assert again.first is not None
    assert (again.first.seq, again.first.body) == (8, b"x" * 300)
