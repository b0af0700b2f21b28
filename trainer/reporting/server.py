"""The trainer's own small web server: /metrics, /status and /healthz."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from trainer.reporting.status import Status


class StatusServer:
    """Serves in a thread from the moment it is made until it is closed."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, status: Status) -> None:
        """Raises OSError when the port is taken; port 0 takes any free one."""
        pages = {
            "/metrics": (CONTENT_TYPE_LATEST, lambda: generate_latest(registry)),
            "/status": ("application/json", lambda: json.dumps(status.snapshot()).encode()),
            "/healthz": ("application/json", lambda: b'{"status": "ok"}'),
        }

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content_type, body = pages.get(self.path.partition("?")[0], (None, None))
                self._answer(
                    404 if body is None else 200, content_type or "text/plain", body() if body else b"not found\n"
                )

            def _answer(self, code: int, content_type: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-server", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it really has."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stops serving and frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
