"""A Google Cloud Storage of this process: what Orbax, TensorStore and gcsfs send to it are their own requests.

To the emulator is added what TensorStore builds on and it lacks: the generation of an object, which a reader is told in
a header, and on which a writer may insist.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import pytest
from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound

BUCKET = "bucket"


class ObjectStore:
    """An emulator with one bucket, whose requests can be made to fail."""

    def __init__(self) -> None:
        self.server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
        self.server.start()
        self.address = f"http://127.0.0.1:{self.server._api._httpd.server_address[1]}"
        self._storage = self.server._storage
        self._refused: tuple[HTTPStatus, str] | None = None
        self._handle = emulator.Router.handle

    def put_in_place(self, patch: pytest.MonkeyPatch) -> None:
        """Puts its own doings in place of the emulator's, and points gs:// at it."""
        patch.setattr(emulator.Router, "handle", lambda router, method: self._answer(router, method))
        patch.setenv("STORAGE_EMULATOR_HOST", self.address)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", self.address)
        # gcsfs would ask Google what kind of bucket this is.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

    @contextmanager
    def answering(self, status: HTTPStatus, part_of_the_name: str) -> Iterator[None]:
        """Uploads of objects whose name has this part in it are answered so."""
        self._refused = (status, part_of_the_name)
        try:
            yield
        finally:
            self._refused = None

    def _generation(self, name: str) -> str:
        try:
            return str(self._storage.get_file_obj(BUCKET, name)["generation"])
        except NotFound:
            return "0"

    def _answer(self, router: Any, method: str) -> None:
        request = emulator.Request(router._request_handler, method)
        named = request.query.get("name", [unquote(request.path.partition("/o/")[2])])[0]
        found = self._generation(named)
        if method == emulator.POST and "uploadType" in request.query:
            wanted = request.query.get("ifGenerationMatch", [found])[0]
            if self._refused and self._refused[1] in named:
                self._refuse(request, router, self._refused[0])
                return
            if wanted != found:
                self._refuse(request, router, HTTPStatus.PRECONDITION_FAILED)
                return
        if method == emulator.GET and found != "0" and request.query.get("alt") == ["media"]:
            if request.query.get("ifGenerationNotMatch") == [found]:
                self._refuse(request, router, HTTPStatus.NOT_MODIFIED)
                return
            send = router._request_handler.end_headers

            def end_headers() -> None:
                router._request_handler.send_header("x-goog-generation", found)
                send()

            router._request_handler.end_headers = end_headers
            try:
                self._handle(router, method)
            finally:
                del router._request_handler.end_headers
            return
        self._handle(router, method)

    def _refuse(self, request: Any, router: Any, status: HTTPStatus) -> None:
        if request.method == emulator.POST:
            assert request.data is not None
        response = emulator.Response(router._request_handler)
        response.status = status
        response.close()


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    """The store, where gs:// leads for as long as a module's tests run."""
    store = ObjectStore()
    with pytest.MonkeyPatch.context() as patch:
        store.put_in_place(patch)
        yield store
    store.server.stop()
