"""The OpenAPI document: FastAPI's, with the problem document's schema and an example for every body."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from service.examples import CONFIG, examples
from vishwamai.contract.problems import ProblemDocument
from vishwamai.contract.schema import json_schema

_REF = "#/components/schemas/"


def describe(app: FastAPI) -> None:
    """Has the application serve the document; it is made when first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, definitions = models_json_schema([(ProblemDocument, "serialization")], ref_template=_REF + "{model}")
    document["components"]["schemas"] |= definitions["$defs"]
    known = examples()
    for content in _contents(document):
        schema = content["schema"]
        for option in (schema, *schema.get("anyOf", ())):
            name = option.get("$ref", "").removeprefix(_REF)
            if name in known:
                content["example"] = known[name]
    paths = document["paths"]
    for path in ("/jobs", "/manifests", "/plans"):
        paths[path]["post"]["requestBody"]["content"]["application/json"]["example"] = CONFIG
    paths["/config-schema"]["get"]["responses"]["200"]["content"]["application/json"]["example"] = json_schema()
    return document


def _contents(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every body that has a schema, of requests and answers."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                yield from (content for content in part.get("content", {}).values() if "schema" in content)
