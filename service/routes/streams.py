"""Waiting for news: a long poll that answers once, and a stream of server-sent events that goes on until the end."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from anyio.to_thread import run_sync as in_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from service.operations.context import Context
from service.routes.parts import LARGEST_ID
from vishwamai.contract.api import JobEvent, LogLine

PING_SECONDS = 15.0
"""Between signs of life on a stream with nothing to say."""
RECONNECT_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class News[Item: (JobEvent, LogLine)]:
    """What one look found."""

    items: Sequence[Item]
    last_id: int
    """Where the next look goes on."""
    more: bool
    """There is more to read at once."""
    over: bool
    """The job had ended before this look: no news are to come."""


async def poll[Item: (JobEvent, LogLine)](
    context: Context, job_id: str, seconds: float, look: Callable[[], News[Item]]
) -> News[Item]:
    """The first look that finds something, or the last one within `seconds`."""
    deadline = time.monotonic() + seconds
    with context.changes.watch(job_id) as watch:
        while True:
            news = await in_thread(look)
            left = deadline - time.monotonic()
            if news.items or news.over or left <= 0 or not await watch.wait(left):
                return news


def stream[Item: (JobEvent, LogLine)](
    context: Context, job_id: str, after: int, look: Callable[[int], News[Item]]
) -> EventSourceResponse:
    """Items as they come, each with its id, until the job has ended and all were sent, or the service ends."""
    return EventSourceResponse(
        _events(context, job_id, after, look), headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )


def resume_after(request: Request, after: int) -> int:
    """Where a stream goes on: behind the Last-Event-ID of a client that reconnects, else behind `after`."""
    text = request.headers.get("last-event-id")
    if text is None:
        return after
    if not (text.isascii() and text.isdecimal()) or int(text) > LARGEST_ID:
        error = {"type": "int_parsing", "loc": ("header", "Last-Event-ID"), "msg": "not an id", "input": text}
        raise RequestValidationError([error])
    return int(text)


async def _events[Item: (JobEvent, LogLine)](
    context: Context, job_id: str, after: int, look: Callable[[int], News[Item]]
) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=RECONNECT_MILLISECONDS)
    with context.changes.watch(job_id) as watch:
        while not context.changes.closing:
            news = await in_thread(look, after)
            for item in news.items:
                yield format_sse_event(data_str=item.model_dump_json(), id=str(item.id))
            after = news.last_id
            if news.more:
                continue
            if news.over:
                return
            if not await watch.wait(PING_SECONDS):
                yield KEEPALIVE_COMMENT
