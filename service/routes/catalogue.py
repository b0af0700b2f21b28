"""What a user may want to know before writing a config."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from service.routes.parts import ContextOf
from vishwamai import __version__
from vishwamai.contract.accelerators import accelerator_list
from vishwamai.contract.api import AcceleratorList, Version
from vishwamai.contract.base import Value
from vishwamai.contract.schema import json_schema

router = APIRouter(tags=["catalogue"])


class Index(Value):
    """Where to go from here."""

    service: str
    version: str
    links: dict[str, str] = Field(description="Addresses by what is there.")


@router.get("/", response_model=Index)
def index(request: Request) -> Index:
    """What this is and where the rest is."""
    links = {
        "jobs": "/jobs",
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "config schema": "/config-schema",
        "accelerators": "/accelerators",
        "readiness": "/readyz",
        "metrics": "/metrics",
    }
    return Index(service=request.app.title, version=__version__, links=links)


@router.get("/config-schema", response_model=dict[str, Any])
def config_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a training config."""
    return json_schema()


@router.get("/accelerators", response_model=AcceleratorList)
def accelerators() -> AcceleratorList:
    """TPU generations, their machine types and the slices made of them."""
    return accelerator_list()


@router.get("/version", response_model=Version)
def version(context: ContextOf) -> Version:
    """What is running here."""
    return Version(version=__version__, launcher=context.launcher.name)
