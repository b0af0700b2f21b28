"""Around every request: its id, who may call, how large a body may be, a log line, figures, and no stack trace out."""

import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import People, refused_origin
from service.metrics import Metrics
from service.routes.problems import problem_response
from service.settings import Settings

log = structlog.get_logger()
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = {"/healthz", "/readyz", "/metrics"}
_OPEN = _QUIET | {"/version", "/openapi.json"}
"""Without a token: what probes and Prometheus ask for, and what is printed in the manual anyway."""
_REPORTS = re.compile(r"/jobs/[^/]+/reports")


class Envelope:
    """ASGI middleware for all of it; problems found here are answered as problem documents too."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._people = People.read(settings.tokens_file) if settings.tokens_file else None
        """None: whoever is on this machine."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out
        answer = _Answer(request_id, send)
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._respond(scope, receive, answer)
            except Exception:
                log.exception("request.failed", method=scope["method"], path=scope["path"])
                if answer.status is not None:
                    raise
                detail = f"the service failed; its log says why under request id {request_id}"
                await self._problem(500, "internal-error", detail, scope, receive, answer)
            finally:
                self._note(scope, answer, time.perf_counter() - began)

    async def _respond(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = Headers(scope=scope)
        is_report = _REPORTS.fullmatch(scope["path"])
        if self._people is None:
            if refusal := refused_origin(scope["method"], headers):
                await self._problem(403, "foreign-origin", refusal, scope, receive, answer)
                return
        elif not (is_report or _is_open(scope["path"])):
            person = self._people.caller(headers.get("authorization", ""))
            if person is None:
                detail = "send your token as 'Authorization: Bearer TOKEN' (the command reads VISHWAMAI_TOKEN)"
                await self._problem(401, "unauthorized", detail, scope, receive, answer)
                return
            structlog.contextvars.bind_contextvars(caller=person.name)
            if not person.may(scope["method"]):
                detail = f"the token of {person.name!r} may look, and not change anything"
                await self._problem(403, "forbidden", detail, scope, receive, answer)
                return
        limit = self._settings.max_report_bytes if is_report else self._settings.max_body_bytes
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            await self._problem(413, "content-too-large", _too_large(limit), scope, receive, answer)
            return
        await self._app(scope, _limited(receive, limit), answer)

    async def _problem(
        self, status: int, kind: str, detail: str, scope: Scope, receive: Receive, answer: "_Answer"
    ) -> None:
        request_id = scope["state"]["request_id"]
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        response = problem_response(status, kind, detail, path=scope["path"], request_id=request_id, headers=headers)
        await response(scope, receive, answer)

    def _note(self, scope: MutableMapping[str, Any], answer: "_Answer", seconds: float) -> None:
        status = answer.status or 499  # the caller left before there was an answer
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.request(scope["method"], route, status, None if answer.streams else seconds)
        if _REPORTS.fullmatch(scope["path"]):
            self._metrics.report(status, scope["state"].get("outcome"))
        elif scope["path"] not in _QUIET:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                route=route,
                status=status,
                seconds=round(seconds, 4),
            )


def _is_open(path: str) -> bool:
    return path in _OPEN or path.split("/")[1] in {"docs", "redoc", "static-offline-docs"}


class _Answer:
    """`send`, with the request's id added to the headers and the status remembered."""

    def __init__(self, request_id: str, send: Send) -> None:
        self._request_id = request_id
        self._send = send
        self.status: int | None = None
        self.streams = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self._request_id
            headers["X-Content-Type-Options"] = "nosniff"
            self.streams = headers.get("content-type", "").startswith("text/event-stream")
        await self._send(message)


def _limited(receive: Receive, limit: int) -> Receive:
    """`receive` that stops a body sent without its length once it is too large."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return limited


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes, which is the most this address takes"
