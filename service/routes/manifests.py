"""Manifests for a Kubernetes cluster."""

from typing import Any

from fastapi import APIRouter, Response

from service.operations import manifests
from service.routes.jobs import CONFIG_BODY
from service.routes.parts import ContextOf, JobId, RawBody
from service.routes.problems import documented

router = APIRouter(tags=["manifests"])
_YAML = "application/yaml"
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "A ConfigMap and a JobSet.", "content": {_YAML: {"schema": {"type": "string"}}}},
}


@router.post(
    "/manifests",
    response_class=Response,
    responses={**_ANSWER, **documented(413, 422)},
    openapi_extra={"requestBody": CONFIG_BODY},
)
def render_config(context: ContextOf, body: RawBody) -> Response:
    """What a config becomes on the cluster: YAML for `kubectl apply -f`. Nothing is stored or created."""
    return Response(manifests.of_config(context, body), media_type=_YAML)


@router.get("/jobs/{job_id}/manifest", response_class=Response, responses={**_ANSWER, **documented(404, 422, 503)})
def job_manifest(context: ContextOf, job_id: JobId) -> Response:
    """What the job becomes on the cluster: YAML for `kubectl apply -f`, with the number of its next attempt."""
    return Response(manifests.of_job(context, job_id), media_type=_YAML)
