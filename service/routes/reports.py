"""Where trainers report. Their credential opens their own job and nothing else."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from service.access import Credentials
from service.operations import reports
from service.routes.parts import ContextOf, JobId
from service.routes.problems import documented
from vishwamai.contract.reports import Report, ReportReceipt

router = APIRouter(tags=["trainers"])
_bearer = HTTPBearer(auto_error=False, description="The job's own credential, given to its trainers at launch.")


def _of_this_job(
    request: Request, job_id: JobId, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> None:
    credentials: Credentials = request.app.state.credentials
    if sent is None:
        raise HTTPException(
            401, "send the job's credential as 'Authorization: Bearer TOKEN'", {"WWW-Authenticate": "Bearer"}
        )
    if not credentials.admits(job_id, sent.credentials):
        raise HTTPException(403, "the credential is not this job's")


@router.post(
    "/jobs/{job_id}/reports",
    response_model=ReportReceipt,
    responses=documented(401, 403, 404, 409, 413, 422, 503),
    dependencies=[Depends(_of_this_job)],
)
def take_report(context: ContextOf, request: Request, job_id: JobId, report: Report) -> ReportReceipt:
    """Takes a batch of a trainer's events. A repeat is acknowledged and ignored; an older attempt gets 409."""
    receipt = reports.take(context, job_id, report)
    request.state.outcome = "accepted" if receipt.accepted else "duplicate"
    return receipt
