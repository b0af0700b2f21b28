"""For those who keep the service running."""

from fastapi import APIRouter, Request, Response

from service.health import readiness
from service.metrics import CONTENT_TYPE, Metrics
from service.routes.parts import ContextOf
from service.routes.problems import documented
from vishwamai.contract.api import Health

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get(
    "/readyz", response_model=Health, responses={503: {"model": Health, "description": "One of the checks failed."}}
)
def readyz(context: ContextOf, request: Request, response: Response) -> Health:
    """The database answers and the reconcile loop goes round."""
    health = readiness(context.store, request.app.state.last_pass(), context.clock())
    response.status_code = 200 if health.status == "ok" else 503
    return health


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(503),
    },
)
def prometheus(context: ContextOf, request: Request) -> Response:
    """The service's own figures, for Prometheus."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.render(context.store.jobs_by_state()), media_type=CONTENT_TYPE)
