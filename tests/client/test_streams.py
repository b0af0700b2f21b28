"""Events and log lines that arrive over broken connections: none lost, none twice."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.client import bodies
from vishwamai.client import Client, NotFound, Unreachable
from vishwamai.client.connection import Connection
from vishwamai.client.patience import Patience
from vishwamai.contract.api import EventList, JobEvent, LogPage


class Broken(httpx2.SyncByteStream):
    """A body whose connection is lost after its last chunk, unless it ends well."""

    def __init__(self, *chunks: str, lost: bool = True) -> None:
        self._chunks = chunks
        self._lost = lost

    def __iter__(self) -> Iterator[bytes]:
        yield from (chunk.encode() for chunk in self._chunks)
        if self._lost:
            raise httpx2.RemoteProtocolError("peer closed the connection")


def sent(number: int) -> str:
    return f"id: {number}\nevent: eval\ndata: {bodies.event(number).model_dump_json()}\n\n"


def stream(*chunks: str, lost: bool) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Broken(*chunks, lost=lost))


class Plane:
    """A control plane whose job trains through `streams` and has ended with the last of them."""

    def __init__(self, *streams: httpx2.Response | Exception) -> None:
        self.left = list(streams)
        self.asked_from: list[str | None] = []
        self.ended_with = 1
        """Streams left when the job has ended."""
        self.rest: list[list[JobEvent]] = []
        """Pages of events that a stream which ended well had not given."""

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/events"):
            job = bodies.job() if len(self.left) > self.ended_with else bodies.succeeded()
            return httpx2.Response(200, text=job.model_dump_json())
        if "event-stream" not in request.headers["accept"]:
            rest = EventList(events=self.rest.pop(0) if self.rest else [], last_id=0)
            return httpx2.Response(200, text=rest.model_dump_json())
        self.asked_from.append(request.headers.get("Last-Event-ID"))
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> Client:
        connection = Connection("http://plane.test", transport=httpx2.MockTransport(self), sleep=lambda seconds: None)
        return Client(connection=connection)


def patient(seconds: float = 60.0) -> Patience:
    """Patience on a clock that only pauses move."""
    now = 0.0

    def sleep(pause: float) -> None:
        nonlocal now
        now += pause

    return Patience(seconds, clock=lambda: now, sleep=sleep)


def test_a_broken_stream_is_taken_up_after_the_last_event():
    half = sent(3)[:20]
    plane = Plane(
        stream(sent(1), sent(2), half, lost=True),
        httpx2.ConnectError("Connection refused"),
        stream(": keep-alive\n\n", sent(3), lost=False),
        stream(sent(4), lost=False),
    )
    events = list(plane.client().events("j1", patience=patient()))
    assert [event.id for event in events] == [1, 2, 3, 4]
    assert plane.asked_from == ["0", "2", "2", "3"]


def test_a_stream_that_the_stopping_service_cut_short_is_taken_up_though_the_job_has_ended():
    plane = Plane(stream(sent(1), lost=False), stream(sent(2), lost=False))
    plane.ended_with = 2
    plane.rest = [[bodies.event(2)]]
    assert [event.id for event in plane.client().events("j1", patience=patient())] == [1, 2]


def test_events_given_up_when_patience_is_spent():
    plane = Plane(stream(sent(1), lost=True), *[httpx2.ConnectError("Connection refused")] * 100)
    seen: list[int] = []
    with pytest.raises(Unreachable):
        seen.extend(event.id for event in plane.client().events("j1", patience=patient(30.0)))
    assert len(plane.left) > 50


def test_events_of_no_job():
    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(404, json={"title": "Not found", "status": 404, "detail": "no job j9"})

    connection = Connection("http://plane.test", transport=httpx2.MockTransport(handler))
    with pytest.raises(NotFound, match="no job j9"):
        next(Client(connection=connection).events("j9"))


def logs_client(pages: list[LogPage | Exception], ended_after: int) -> tuple[Client, list[dict[str, str]]]:
    """A client whose log comes in these pages; the job has ended once so many were read."""
    asked: list[dict[str, str]] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/logs"):
            job = bodies.succeeded() if len(asked) >= ended_after else bodies.job()
            return httpx2.Response(200, text=job.model_dump_json())
        asked.append(dict(request.url.params))
        page = pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return httpx2.Response(200, text=page.model_dump_json())

    connection = Connection(
        "http://plane.test", transport=httpx2.MockTransport(handler), attempts=1, sleep=lambda seconds: None
    )
    return Client(connection=connection), asked


def page(*numbers: int, last: int | None = None) -> LogPage:
    lines = [bodies.line(number, f"line {number}") for number in numbers]
    return LogPage(lines=lines, last_id=last if last is not None else numbers[-1])


def test_logs_without_following_read_every_page():
    client, asked = logs_client([page(1, 2), page(3), page(last=3)], ended_after=99)
    assert [line.id for line in client.logs("j1")] == [1, 2, 3]
    assert [one["after"] for one in asked] == ["0", "2", "3"]
    assert all("wait" not in one for one in asked)


def test_a_tail_is_one_page():
    client, asked = logs_client([page(8, 9)], ended_after=99)
    assert [line.id for line in client.logs("j1", tail=2)] == [8, 9]
    assert asked == [{"tail": "2", "limit": "2"}]


def test_following_goes_on_from_the_tail_through_an_outage_to_the_end():
    pages: list[LogPage | Exception] = [
        page(9),
        page(last=9),
        httpx2.ReadError("reset"),
        page(10),
        page(11),
        page(last=11),
    ]
    client, asked = logs_client(pages, ended_after=4)
    assert [line.id for line in client.logs("j1", tail=1, follow=True, patience=patient())] == [9, 10, 11]
    assert [one.get("after") for one in asked] == [None, "9", "9", "9", "10", "11"]


def test_a_reader_who_stops_early_closes_the_stream():
    plane = Plane(stream(sent(1), sent(2), lost=False), stream(lost=False))
    events = plane.client().events("j1", patience=patient())
    assert next(events).id == 1
    events.close()
    assert len(plane.left) == 1
