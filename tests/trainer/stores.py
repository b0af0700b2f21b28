"""Object stores for tests: moto's S3, an emulator of Google's, and a server that fails as it is told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

BUCKET = "corpora"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A fake S3, one for all tests of a process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    """A fake Cloud Storage, one for all tests of a process."""
    from gcp_storage_emulator.server import create_server

    server = create_server("127.0.0.1", 0, in_memory=True)
    server.start()
    yield f"http://127.0.0.1:{server._api._httpd.server_address[1]}"
    server.stop()


@pytest.fixture
def s3(monkeypatch, s3_endpoint) -> str:
    """The address of an empty bucket."""
    use_s3(monkeypatch, s3_endpoint)
    return _emptied("s3")


@pytest.fixture
def gs(monkeypatch, gcs_endpoint) -> str:
    """The address of an empty bucket."""
    use_gcs(monkeypatch, gcs_endpoint)
    return _emptied("gs")


@pytest.fixture
def store(request) -> str:
    """An empty bucket of the kind that a test is parametrized with, by `indirect`."""
    if request.param == "memory":
        import fsspec

        fsspec.filesystem("memory").store.clear()
        return "memory://corpora"
    return request.getfixturevalue(request.param)


def use_s3(monkeypatch, endpoint: str, **options) -> None:
    """Sends s3:// to an endpoint; `options` are the user's settings for fsspec, which keeps a file system for each."""
    from fsspec.config import conf

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setitem(conf, "s3", {"endpoint_url": endpoint, **options})


def use_gcs(monkeypatch, endpoint: str) -> None:
    """Sends gs:// to an endpoint."""
    from fsspec.config import conf

    monkeypatch.setitem(conf, "gs", {"endpoint_url": endpoint})


def do_not_wait(monkeypatch) -> None:
    """Lets gcsfs try again at once."""
    import gcsfs.retry

    async def at_once(seconds: float) -> None:
        pass

    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=at_once))


def put(address: str, content: bytes) -> str:
    """Writes an object."""
    from trainer.remote import remote

    place = remote(address, "test")
    place.system.pipe_file(place.path, content)
    return address


@contextmanager
def failing_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives every request to `answer`, and the requests that came."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            requests.append(f"{self.command} {self.path}")
            answer(self)

        do_GET = do_HEAD = do_POST = handle_any  # noqa: N815  # as the library calls them

        def log_message(self, *arguments) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def status(code: int, content: bytes = b"") -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of one status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    return answer


def _emptied(scheme: str) -> str:
    from trainer.remote import remote

    system = remote(f"{scheme}://{BUCKET}/x", "test").system
    if system.exists(BUCKET):
        system.rm(BUCKET, recursive=True)
    system.invalidate_cache()
    if not system.exists(BUCKET):
        system.mkdir(BUCKET)
    return f"{scheme}://{BUCKET}"
