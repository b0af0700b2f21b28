import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest


@pytest.mark.parametrize(("token", "sent"), [("vw_secret", "Bearer vw_secret"), ("", None), (None, None)])
def test_the_command_says_who_calls_by_the_environments_token(run, monkeypatch, token, sent):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    if token is None:
        monkeypatch.delenv("VISHWAMAI_TOKEN", raising=False)
    else:
        monkeypatch.setenv("VISHWAMAI_TOKEN", token)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("VISHWAMAI_SERVER", f"http://127.0.0.1:{server.server_port}")
        run("get", "j1")
        thread.join()
    assert seen == [sent]
