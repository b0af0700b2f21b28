"""A control plane over real HTTP that answers what a test tells it to: hostile text, faults, a job's whole life."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel

Body = BaseModel | dict[str, Any] | str
Answer = Body | tuple[int, Body] | Callable[[], Any]


class Plane:
    """Answers by "METHOD /path"; a list is worked off, its last answer staying. `requests` holds what came."""

    def __init__(self, answers: dict[str, Answer | list[Answer]]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, dict[str, list[str]], bytes]] = []
        self.address = ""

    def answer(self, line: str) -> tuple[int, str]:
        """Status and body for a request line."""
        found = self.answers.get(line)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found) and not isinstance(found, BaseModel):
            found = found()
        if found is None:
            return 404, json.dumps({"title": "Unknown job", "status": 404, "detail": f"nothing at {line}"})
        status, body = found if isinstance(found, tuple) else (200, found)
        if isinstance(body, BaseModel):
            return status, body.model_dump_json()
        return status, body if isinstance(body, str) else json.dumps(body)

    def bodies(self, line: str) -> list[Any]:
        """JSON bodies that came with a request line."""
        return [json.loads(body) for at, _, body in self.requests if at == line]

    def queries(self, line: str) -> list[dict[str, list[str]]]:
        """Parameters that came with a request line."""
        return [query for at, query, _ in self.requests if at == line]


def media_type(status: int, text: str) -> str:
    """What a body is, by its status and its first character."""
    if status >= 400:
        return "application/problem+json"
    return {"{": "application/json", "[": "application/json", "<": "text/html"}.get(text[:1], "text/csv")


@contextmanager
def serving(answers: dict[str, Any]) -> Iterator[Plane]:
    """A plane with these answers on a free port."""
    plane = Plane(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            line = f"{self.command} {url.path}"
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            plane.requests.append((line, parse_qs(url.query), body))
            status, text = plane.answer(line)
            data = text.encode("utf-8", "surrogatepass")
            self.send_response(status)
            self.send_header("Content-Type", media_type(status, text))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_any  # noqa: N815 (http.server's names)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        plane.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield plane
        finally:
            server.shutdown()
            thread.join()
