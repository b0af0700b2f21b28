"""A control plane made of nothing but an HTTP server: keeps reports, and answers as it is told."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Answer = tuple[int, dict[str, Any]]


class FakeControlPlane:
    """Listens from `start` to `stop`, always on the same port, so that an outage is a stop and a start."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer | None] = lambda report: None) -> None:
        """`answer(report)` gives status and body; None: accept as the real one does."""
        self.reports: list[dict[str, Any]] = []
        self.tokens: set[str | None] = set()
        self._answer = answer
        self._changed = threading.Condition()
        self._port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/jobs/j/reports"

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events stored, repeats ignored as the real one does."""
        seen: set[tuple[int, int]] = set()
        events = []
        for report in self.reports:
            key = (report["attempt"], report["seq"])
            if key not in seen:
                seen.add(key)
                events += report["events"]
        return events

    def start(self) -> None:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = plane._take(report, self.headers.get("Authorization"))
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Once stopped, stopping again changes nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait_until(self, true: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(true, timeout=30)

    def _take(self, report: dict[str, Any], authorization: str | None) -> Answer:
        with self._changed:
            self.tokens.add(authorization)
            answer = self._answer(report) or (200, {"accepted": True, "seq": report["seq"]})
            if answer[0] == 200:
                self.reports.append(report)
            self._changed.notify_all()
            return answer


@pytest.fixture
def planes():
    """Starts control planes; all are stopped at the end."""
    made = []

    def start(*arguments: Any) -> FakeControlPlane:
        made.append(FakeControlPlane(*arguments))
        return made[-1]

    yield start
    for plane in made:
        plane.stop()
