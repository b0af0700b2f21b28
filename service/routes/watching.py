"""Watching a job: its events, log, series, checkpoints and attempts."""

from typing import Annotated, Literal

from anyio.to_thread import run_sync as in_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from service.operations import jobs, metrics
from service.routes.parts import LARGEST_ID, ContextOf, JobId, Parameters, accepts
from service.routes.problems import documented
from service.routes.streams import News, poll, resume_after, stream
from service.storage import LogFilter
from vishwamai.contract.api import (
    AttemptList,
    CheckpointList,
    EventList,
    JobEvent,
    LogLine,
    LogPage,
    MetricsPage,
)

router = APIRouter(tags=["watching"])
_STREAM = "text/event-stream"
_SSE_SCHEMA = {
    "type": "string",
    "description": "Server-sent events: `id` is the item's id, `data` the item as JSON. Last-Event-ID resumes.",
}


class WaitParameters(Parameters):
    """Where to begin and how long to wait."""

    after: int = Field(0, ge=0, le=LARGEST_ID, description="Only what has a higher id.")
    limit: int = Field(1000, ge=1, le=10_000, description="Items in one answer.")
    wait: float = Field(0.0, ge=0.0, le=30.0, description="Seconds to wait while there is nothing.")


class LogParameters(WaitParameters):
    """Which lines."""

    tail: int | None = Field(None, ge=1, le=10_000, description="The last so many lines.")
    search: str | None = Field(None, min_length=1, max_length=500, description="Text in the line; case is ignored.")
    attempt: int | None = Field(None, ge=1, le=2**31, description="Lines of this attempt only.")
    process: int | None = Field(None, ge=0, le=2**31, description="Lines of this process only.")

    def wanted(self, after: int, tail: int | None) -> LogFilter:
        """The filter these parameters spell, from the line behind `after` on."""
        return LogFilter(after, tail, self.limit, self.search, self.attempt, self.process)


class MetricsParameters(Parameters):
    """Which series, how fine."""

    names: list[Annotated[str, Field(max_length=1000)]] = Field(
        [],
        description="Names, separated by commas or repeated: loss, eval_loss, tokens_per_second, ... All by default.",
    )
    max_points: int = Field(1000, ge=4, le=100_000, description="Points of each series; minima and maxima are kept.")
    format: Literal["json", "csv"] | None = Field(None, description="Overrides the Accept header.")


@router.get(
    "/jobs/{job_id}/events",
    response_model=EventList,
    responses={
        200: {"description": "Events by rising id.", "content": {_STREAM: {"schema": _SSE_SCHEMA}}},
        **documented(404, 422, 503),
    },
)
async def job_events(
    context: ContextOf, job_id: JobId, request: Request, parameters: Annotated[WaitParameters, Query()]
) -> EventList | Response:
    """What happened to the job: as a page, with ?wait= as a long poll, or as server-sent events where accepted."""

    def look(after: int) -> News[JobEvent]:
        over = jobs.record(context, job_id).state.is_terminal
        page = jobs.events(context, job_id, after=after, limit=parameters.limit)
        return News(page.events, page.last_id, more=len(page.events) == parameters.limit, over=over)

    after = resume_after(request, parameters.after)
    if accepts(request, _STREAM):
        await in_thread(jobs.record, context, job_id)
        return stream(context, job_id, after, look)
    news = await poll(context, job_id, parameters.wait, lambda: look(after))
    return EventList(events=list(news.items), last_id=news.last_id)


@router.get(
    "/jobs/{job_id}/logs",
    response_model=LogPage,
    responses={
        200: {"description": "Lines in the order written.", "content": {_STREAM: {"schema": _SSE_SCHEMA}}},
        **documented(404, 422, 503),
    },
)
async def job_logs(
    context: ContextOf, job_id: JobId, request: Request, parameters: Annotated[LogParameters, Query()]
) -> LogPage | Response:
    """Log lines: as a page, with ?wait= as a long poll, or as server-sent events where accepted."""
    first = resume_after(request, parameters.after)
    begins = "last-event-id" not in request.headers

    def look(after: int) -> News[LogLine]:
        over = jobs.record(context, job_id).state.is_terminal
        # The tail is where a new stream begins; from there on it misses nothing.
        tail = parameters.tail if begins and after == first else None
        lines, last_id = context.store.log(job_id, parameters.wanted(after, tail))
        more = len(lines) == parameters.limit and tail is None
        return News(lines, last_id, more=more, over=over)

    if accepts(request, _STREAM):
        await in_thread(jobs.record, context, job_id)
        return stream(context, job_id, first, look)
    news = await poll(context, job_id, parameters.wait, lambda: look(first))
    return LogPage(lines=list(news.items), last_id=news.last_id)


@router.get(
    "/jobs/{job_id}/metrics",
    response_model=MetricsPage,
    responses={
        200: {"description": "The series.", "content": {"text/csv": {"schema": {"type": "string"}}}},
        **documented(404, 422, 503),
    },
)
def job_metrics(
    context: ContextOf, job_id: JobId, request: Request, parameters: Annotated[MetricsParameters, Query()]
) -> MetricsPage | Response:
    """Loss, learning rate, speed, ... over steps; each step once, the newest attempt's. JSON, or CSV where accepted."""
    names = [name for some in parameters.names for name in some.split(",") if name]
    page = metrics.page(context, job_id, list(dict.fromkeys(names)), parameters.max_points)
    if parameters.format == "csv" or (parameters.format is None and accepts(request, "text/csv")):
        return Response(metrics.table(page), media_type="text/csv")
    return page


@router.get("/jobs/{job_id}/checkpoints", response_model=CheckpointList, responses=documented(404, 422, 503))
def job_checkpoints(context: ContextOf, job_id: JobId) -> CheckpointList:
    """Committed checkpoints that retention has kept, newest first."""
    return jobs.checkpoints(context, job_id)


@router.get("/jobs/{job_id}/attempts", response_model=AttemptList, responses=documented(404, 422, 503))
def job_attempts(context: ContextOf, job_id: JobId) -> AttemptList:
    """All lives of the job's processes, oldest first."""
    return jobs.attempts(context, job_id)
