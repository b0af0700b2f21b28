"""How one call gets through: repeated with back-off while the way is down, and failed calls made into exceptions.

Every call of the API may be repeated: reads change nothing, a submission carries its idempotency key, and cancel and
retry ask for a state rather than for a change. So one rule serves them all.
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from pydantic import ValidationError

from vishwamai.client.errors import BadAddress, ServerFault, Unreachable, error_from
from vishwamai.contract.problems import ProblemDocument

TRANSIENT = frozenset({429, 502, 503, 504})
"""Statuses of a gateway, or of a control plane, that is not there yet, is going, or has its hands full."""
LONGEST_PAUSE = 8.0
"""Seconds between two tries, at most."""

Query = Mapping[str, Any]
"""Parameters by name; None and empty lists are left out."""


class Connection:
    """A control plane's address with the patience to reach it.

    `token` says who calls, where the control plane asks for one. `attempts` tries are made of each call; pauses between
    them double from `first_pause` seconds, with jitter.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        attempts: int = 4,
        first_pause: float = 0.2,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = _address(server)
        self._timeout = timeout
        self._attempts = attempts
        self._first_pause = first_pause
        self._sleep = sleep
        self._http = httpx2.Client(
            base_url=self.server,
            timeout=timeout,
            transport=transport,
            headers={"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
        )

    def close(self) -> None:
        """Lets go of the sockets."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
    ) -> httpx2.Response:
        """The answer to one call with the JSON body `document`; the server may take `wait` seconds beyond the usual.

        Raises Unreachable when no try got through, an ApiError for an answer that is not a success, and ValueError
        for a document with NaN or infinity.
        """
        body = None
        if document is not None:
            body = json.dumps(document, allow_nan=False)
            headers = {"Content-Type": "application/json", **(headers or {})}
        extended = httpx2.Timeout(self._timeout, read=self._timeout + wait)
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                response = self._http.request(
                    method, path, params=_given(query), content=body, headers=headers, timeout=extended
                )
            except httpx2.TransportError as error:
                if last or not _may_pass(error):
                    raise Unreachable(self.server, _reason(error)) from error
                self._sleep(self._pause(attempt))
                continue
            if response.status_code not in TRANSIENT or last:
                return checked(response, self.server)
            self._sleep(self._pause(attempt, response.headers.get("Retry-After")))
        raise AssertionError("attempts must be at least 1")

    def download(self, path: str, to: Path, *, query: Query | None = None) -> None:
        """Writes an answer's body to a file, which is whole or absent. Raises as `send` does, once, and OSError."""
        partial = to.with_name(f".{to.name}.partial")
        try:
            with self._http.stream("GET", path, params=_given(query)) as response:
                if not response.is_success:
                    response.read()
                    checked(response, self.server)
                with partial.open("wb") as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
            partial.replace(to)
        except httpx2.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error
        finally:
            partial.unlink(missing_ok=True)

    @contextmanager
    def stream(self, path: str, *, last_event_id: int | None = None) -> Iterator[httpx2.EventSource]:
        """Server-sent events, in one connection. Raises as `send` does, once; reconnecting is the caller's."""
        headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
        try:
            with self._http.sse(path, headers=headers) as source:
                if not source.response.is_success:
                    source.response.read()
                    checked(source.response, self.server)
                yield source
        except httpx2.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error

    def _pause(self, attempt: int, retry_after: str | None = None) -> float:
        if retry_after and retry_after.isdecimal():
            return min(float(retry_after), LONGEST_PAUSE)
        pause: float = self._first_pause * 2 ** (attempt - 1)
        return min(pause, LONGEST_PAUSE) * random.uniform(0.75, 1.25)


def _address(server: str) -> str:
    """The address without a slash at its end. Raises BadAddress for what is no http or https URL."""
    if server and "://" not in server:
        raise BadAddress(server, f"write http://{server}")
    try:
        url = httpx2.URL(server)
    except httpx2.InvalidURL as error:
        raise BadAddress(server) from error
    if url.scheme not in ("http", "https") or not url.host or not 0 <= (url.port or 0) < 2**16:
        raise BadAddress(server)
    return server.rstrip("/")


def checked(response: httpx2.Response, server: str) -> httpx2.Response:
    """The response itself when it is a success; otherwise raises what its problem document says."""
    if response.is_success:
        return response
    problem = _problem(response, server)
    if response.status_code in TRANSIENT:
        raise Unreachable(server, f"{response.status_code} {problem.detail or problem.title}", unavailable=True)
    raise error_from(problem)


def unreadable(server: str, response: httpx2.Response, why: str) -> ServerFault:
    """What to raise when a success does not hold what its route promises."""
    where = f"{response.request.method} {response.request.url.path}"
    return ServerFault(
        ProblemDocument(
            title="Not the answer of a control plane",
            status=response.status_code,
            detail=f"{where} at {server} answered something else: {why}. "
            "Is the address right, and are both sides of one version?",
        )
    )


def _problem(response: httpx2.Response, server: str) -> ProblemDocument:
    try:
        return ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        return ProblemDocument(
            title=response.reason_phrase or "Error",
            status=response.status_code,
            detail=f"{server} answered {response.status_code} without saying why; is a control plane there?",
        )


def _given(query: Query | None) -> dict[str, Any]:
    return {name: value for name, value in (query or {}).items() if value is not None and value != []}


def _may_pass(error: httpx2.TransportError) -> bool:
    """Whether another try may fare better; a malformed request stays malformed."""
    return not isinstance(error, httpx2.LocalProtocolError)


def _reason(error: httpx2.TransportError) -> str:
    text = str(error) or type(error).__name__
    if "refused" in text.lower():
        return "connection refused"
    return "no answer in time" if isinstance(error, httpx2.TimeoutException) else text
