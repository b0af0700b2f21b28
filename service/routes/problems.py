"""Every error as a problem document (RFC 9457): which status each refusal has, and how routes document theirs."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from service.launchers.base import (
    Busy,
    CannotGenerate,
    ExportFailed,
    ExportRefused,
    GenerationFailed,
    GenerationRefused,
    NoExport,
    PlanFailed,
    PlanRefused,
)
from service.operations.generate import NoCheckpoint
from service.operations.jobs import UnknownCheckpoint
from service.operations.reports import InvalidReport
from service.operations.submit import BlockedLaunch
from service.storage import DatabaseError, FencedAttempt, ForbiddenMove, KeyReused, UnknownJob, Unstorable
from vishwamai.contract.problems import PROBLEM_MEDIA_TYPE, InvalidConfig, Notice, Problem, ProblemDocument

_WHEN = {
    401: "The credential is missing.",
    403: "The credential is not this job's, or the request comes from a page of another site.",
    404: "There is no such job.",
    409: "The job's state, or what was asked before, does not allow it.",
    413: "The body is too large.",
    422: "The request is wrong; `errors` says where and why, all of it.",
    429: "As much of this is under way as may be; try again after Retry-After.",
    500: "The service failed, or what it started did.",
    501: "This launcher cannot do it.",
    503: "The database cannot be used at present; try again.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: the problems it may answer with."""
    return {
        status: {"description": _WHEN[status], "content": {PROBLEM_MEDIA_TYPE: {"schema": _SCHEMA}}}
        for status in statuses
    }


_SCHEMA = {"$ref": "#/components/schemas/ProblemDocument"}


def problem_response(
    status: int,
    kind: str,
    detail: str | None,
    *,
    path: str,
    request_id: str,
    errors: Sequence[Problem] = (),
    warnings: Sequence[Notice] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for one problem; `kind` is the last part of its type."""
    document = ProblemDocument.model_validate(
        {
            "type": f"/problems/{kind}",
            "title": kind.replace("-", " ").capitalize(),
            "status": status,
            "detail": detail,
            "instance": path,
            "errors": list(errors),
            "warnings": list(warnings),
            "request_id": request_id,
        }
    )
    body = document.model_dump_json(exclude_none=True)
    return Response(body, status, media_type=PROBLEM_MEDIA_TYPE, headers=dict(headers or {}))


def install(app: FastAPI) -> None:
    """Teaches the application to answer each refusal."""
    for error, translate in _TRANSLATIONS.items():
        app.add_exception_handler(error, _handler(translate))


def _handler(translate: Callable[[Any], dict[str, Any]]) -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        answer = {"detail": str(error), **translate(error)}
        if answer["status"] == 405:
            answer["headers"] = {"Allow": ", ".join(_methods(request))}
        return problem_response(**answer, path=request.url.path, request_id=request.state.request_id)

    return handle


def _methods(request: Request) -> list[str]:
    """What the address takes; the router would name the methods of one route alone."""
    paths = request.app.openapi()["paths"]
    fitting = [template for template in paths if compile_path(template)[0].match(request.url.path)]
    found = {method.upper() for method in paths[max(fitting, key=len)]} if fitting else set()
    return sorted(found | {"HEAD"} if "GET" in found else found)


def _http(error: HTTPException) -> dict[str, Any]:
    if error.status_code == 400:  # FastAPI's own word for a body that it cannot decode
        problem = Problem(pointer="", message="the body is not JSON text in UTF-8")
        return {"status": 422, "kind": "invalid-request", "detail": problem.message, "errors": [problem]}
    phrase = "Content Too Large" if error.status_code == 413 else HTTPStatus(error.status_code).phrase
    details = {404: "there is nothing at this address", 405: "this address does not take that method"}
    detail = error.detail if error.detail != phrase else details.get(error.status_code, phrase)
    kind = phrase.lower().replace(" ", "-")
    return {"status": error.status_code, "kind": kind, "detail": detail, "headers": error.headers}


def _invalid_request(error: RequestValidationError) -> dict[str, Any]:
    problems = [_problem(one) for one in error.errors()]
    detail = f"{len(problems)} {'thing is' if len(problems) == 1 else 'things are'} wrong with the request"
    return {"status": 422, "kind": "invalid-request", "detail": detail, "errors": problems}


def _problem(error: Mapping[str, Any]) -> Problem:
    place, *path = error["loc"]
    if place == "body":
        if error["type"] == "json_invalid":
            return Problem(pointer="", message=f"the body is not JSON: {error.get('ctx', {}).get('error', '')}")
        if not path and error["type"] == "model_attributes_type":
            hint = "send it with the header Content-Type: application/json"
            return Problem(pointer="", message="the body is not a JSON object", accepted="an object", hint=hint)
        pointer = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
        return Problem(pointer=pointer, message=error["msg"], value=_short(error.get("input")))
    name = ".".join(str(part) for part in path)
    return Problem(pointer="", message=f"{place} parameter {name!r}: {error['msg']}", value=_short(error.get("input")))


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= 200 else text[:200] + "…"


_TRANSLATIONS: dict[type[Exception], Callable[[Any], dict[str, Any]]] = {
    HTTPException: _http,
    RequestValidationError: _invalid_request,
    InvalidConfig: lambda error: {
        "status": 422,
        "kind": "invalid-config",
        "detail": f"the config cannot be accepted: {len(error.problems)} "
        f"{'thing is' if len(error.problems) == 1 else 'things are'} wrong with it",
        "errors": error.problems,
    },
    BlockedLaunch: lambda error: {
        "status": 422,
        "kind": "blocked-launch",
        "errors": [Problem(pointer=one.pointer, message=one.message, hint=one.fix) for one in error.notices],
        "warnings": error.notices,
    },
    InvalidReport: lambda error: {"status": 422, "kind": "invalid-report", "errors": error.problems},
    UnknownCheckpoint: lambda error: {
        "status": 422,
        "kind": "unknown-checkpoint",
        "errors": [Problem(pointer=f"/{error.field}", message=str(error), value=error.step)],
    },
    NoCheckpoint: lambda error: {"status": 409, "kind": "no-checkpoint"},
    Busy: lambda error: {"status": 429, "kind": "busy", "headers": {"Retry-After": "5"}},
    CannotGenerate: lambda error: {"status": 501, "kind": "not-on-this-launcher"},
    GenerationRefused: lambda error: {"status": 422, "kind": "generation-refused"},
    GenerationFailed: lambda error: {"status": 500, "kind": "generation-failed"},
    ExportRefused: lambda error: {"status": 422, "kind": "export-refused"},
    ExportFailed: lambda error: {"status": 500, "kind": "export-failed"},
    PlanRefused: lambda error: {"status": 422, "kind": "plan-refused"},
    PlanFailed: lambda error: {"status": 500, "kind": "plan-failed"},
    NoExport: lambda error: {"status": 404, "kind": "no-export"},
    UnknownJob: lambda error: {"status": 404, "kind": "unknown-job"},
    ForbiddenMove: lambda error: {"status": 409, "kind": "forbidden-in-this-state"},
    FencedAttempt: lambda error: {"status": 409, "kind": "fenced-attempt"},
    KeyReused: lambda error: {"status": 409, "kind": "idempotency-key-reused"},
    Unstorable: lambda error: {"status": 422, "kind": "unstorable-value"},
    DatabaseError: lambda error: {
        "status": 503,
        "kind": "database-unavailable",
        "detail": f"the database cannot be used at present ({error.why or 'see the log'}); nothing was changed",
        "headers": {"Retry-After": "5"},
    },
}
