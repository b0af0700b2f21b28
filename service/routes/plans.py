"""Preflight alone."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from service.operations import plan
from service.routes.jobs import CONFIG_BODY
from service.routes.parts import ContextOf, Parameters, RawBody
from service.routes.problems import documented
from vishwamai.contract.plan import Plan

router = APIRouter(tags=["plans"])


class PlanParameters(Parameters):
    """On which slice."""

    slice: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9-]{0,39}:[0-9x]{1,20}$",
        description="ACCELERATOR:TOPOLOGY, such as v5e:2x4; the config's own by default.",
    )


@router.post(
    "/plans",
    response_model=Plan,
    responses=documented(413, 422, 429, 500, 501),
    openapi_extra={"requestBody": CONFIG_BODY},
)
async def make_plan(context: ContextOf, body: RawBody, parameters: Annotated[PlanParameters, Query()]) -> Plan:
    """Compiles a config's step with the TPU compiler: whether it fits, and what it costs. Takes a minute or more."""
    return await plan.plan(context, body, parameters.slice)
