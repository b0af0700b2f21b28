"""Submitting, listing and steering jobs."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints

from service.operations import jobs, submit
from service.routes.parts import ContextOf, JobId, Parameters, RawBody
from service.routes.problems import documented
from service.storage import JobFilter
from vishwamai.contract.api import Job, JobList, RetryRequest, Validation
from vishwamai.contract.states import JobState

router = APIRouter(tags=["jobs"])
Label = Annotated[str, StringConstraints(pattern=r"^[^=]+=", max_length=320)]


def _written_out(value: object) -> object:
    """A bare number would be taken for seconds since 1970, a year included."""
    if isinstance(value, str) and "T" not in value.upper():
        raise ValueError("write date, time and offset, e.g. 2026-11-23T16:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
CONFIG_BODY = {
    "required": True,
    "description": "A training config; GET /config-schema has its schema. All sections and fields are optional.",
    "content": {"application/json": {"schema": {"type": "object"}}},
}


class SubmitParameters(Parameters):
    """How to take the config."""

    validate_only: bool = Field(False, description="Say what would run, store nothing.")


class ListParameters(Parameters):
    """Which jobs; all conditions must hold."""

    state: list[JobState] = Field([], description="Any of these states.")
    label: list[Label] = Field([], description="Labels the job must carry, each as key=value.")
    name: str | None = Field(None, max_length=200, description="Exactly this name.")
    accelerator: str | None = Field(None, max_length=64, description="This generation, e.g. v5e.")
    text: str | None = Field(
        None, min_length=1, max_length=200, description="Part of the id, name, notes, a label (key=value) or a tag."
    )
    created_after: Moment | None = None
    created_before: Moment | None = None
    limit: int = Field(50, ge=1, le=500, description="Jobs on a page.")
    cursor: str | None = Field(None, max_length=64, description="`next_cursor` of the page before.")

    def wanted(self) -> JobFilter:
        """The filter these parameters spell."""
        after: datetime | None = self.created_after
        before: datetime | None = self.created_before
        return JobFilter(
            states=self.state,
            labels=[(key, value) for key, _, value in (label.partition("=") for label in self.label)],
            name=self.name,
            accelerator=self.accelerator,
            text=self.text,
            created_after=after,
            created_before=before,
        )


class CancelParameters(Parameters):
    """How to stop."""

    save: bool = Field(True, description="Checkpoint before ending.")


@router.post(
    "/jobs",
    status_code=201,
    response_model=Job,
    responses={
        200: {"model": Validation, "description": "With validate_only: the config is valid."},
        **documented(409, 413, 422, 503),
    },
    openapi_extra={"requestBody": CONFIG_BODY},
)
def submit_job(
    context: ContextOf,
    body: RawBody,
    response: Response,
    parameters: Annotated[SubmitParameters, Query()],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> Job | Response:
    """Starts a job. It is answered once the job's record is on disk, and survives a crash from then on.

    Send an Idempotency-Key and the call may be repeated: the same key with the same config is the same job.
    """
    if parameters.validate_only:
        resolved = submit.validate(context, body)
        found = Validation(resolved=resolved, decisions=resolved.decisions, warnings=resolved.warnings)
        return Response(found.model_dump_json(), media_type="application/json")
    job_id, replayed = submit.submit(context, body, idempotency_key)
    response.headers["Location"] = f"/jobs/{job_id}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return jobs.get(context, job_id)


@router.get("/jobs", response_model=JobList, responses=documented(422, 503))
def list_jobs(context: ContextOf, parameters: Annotated[ListParameters, Query()]) -> JobList:
    """Jobs, newest first, page by page."""
    return jobs.find(context, parameters.wanted(), limit=parameters.limit, cursor=parameters.cursor)


@router.get("/jobs/{job_id}", response_model=Job, responses=documented(404, 422, 503))
def get_job(context: ContextOf, job_id: JobId) -> Job:
    """One job: what was asked, what runs, how far it is, what happened to it."""
    return jobs.get(context, job_id)


@router.post("/jobs/{job_id}:cancel", response_model=Job, responses=documented(404, 409, 422, 503))
def cancel_job(context: ContextOf, job_id: JobId, parameters: Annotated[CancelParameters, Query()]) -> Job:
    """Asks a job to stop, after saving unless told otherwise. May be repeated; save=false then hastens it."""
    return jobs.cancel(context, job_id, save=parameters.save)


@router.post("/jobs/{job_id}:retry", response_model=Job, responses=documented(404, 409, 413, 422, 503))
def retry_job(context: ContextOf, job_id: JobId, request: RetryRequest | None = None) -> Job:
    """Starts a failed or cancelled job again, from a checkpoint or the newest one. The restart budget is new."""
    return jobs.retry(context, job_id, request.from_step if request else None)
