"""Addresses of objects, and the file systems of fsspec that serve them.

Waiting and repeating are the libraries' own: each request is given up after CONNECT_SECONDS or READ_SECONDS and
repeated with growing pauses. What the user set for fsspec (FSSPEC_S3_..., ~/.config/fsspec) comes before our settings.
"""

import io
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from trainer.errors import UserError
from trainer.remote.faults import blamed

SCHEMES = ("gs", "s3", "memory")
CONNECT_SECONDS = 10
READ_SECONDS = 20
_CLIENT_TRIES = 5
"""Of botocore, for each request that s3fs repeats _S3_TRIES times; gcsfs tries 6 times of its own."""
_S3_TRIES = 2
_BLOCK = 8 * 2**20
"""Bytes of one request for a piece of an object."""
_BUFFER = 2**20
_VERSION = ("ETag", "etag", "generation", "md5Hash", "LastModified", "updated", "mtime", "created")
"""Where stores tell which version of an object they hold."""


def is_address(location: str) -> bool:
    """Whether a location is an address rather than a path of this machine."""
    return "://" in location


def remote(address: str, field: str) -> "Remote":
    """The place that an address means. Raises UserError for a scheme that is not served, or where no bucket is."""
    scheme, _, path = address.partition("://")
    if scheme not in SCHEMES:
        raise UserError(
            f"{field}: {address!r} is an address of a kind that this release does not read (gs:// and s3:// are): "
            "copy it to a bucket or a disk, and name that"
        )
    if not path.split("/")[0] and scheme != "memory":
        raise UserError(f"{field}: {address!r} names no bucket: write it as {scheme}://BUCKET/PATH")
    return Remote(scheme, path.strip("/") if scheme == "memory" else path, field)


@dataclass(frozen=True)
class Remote:
    """A place in an object store; `field` is the setting that named it, for messages.

    Every method raises UserError or StorageError as trainer.remote.faults says.
    """

    scheme: str
    path: str
    """Bucket and key, without the scheme."""
    field: str

    @property
    def address(self) -> str:
        """As a config names it."""
        return f"{self.scheme}://{self.path}"

    @property
    def bucket(self) -> str:
        """The first part of the path."""
        return self.path.split("/")[0]

    def at(self, path: str) -> "Remote":
        """Another place of the same store, by the path that fsspec gives for it."""
        return Remote(self.scheme, path.lstrip("/"), self.field)

    def __truediv__(self, name: str) -> "Remote":
        return self.at(f"{self.path.rstrip('/')}/{name}")

    @cached_property
    def system(self) -> Any:
        """The fsspec file system; fsspec keeps one for each process."""
        with blamed(self.address, self.field):
            return _system(self.scheme)

    def info(self) -> dict[str, Any] | None:
        """What the store says of it, asked anew: `type` is file or directory. None when there is nothing."""
        with blamed(self.address, self.field):
            self.system.invalidate_cache(self.system._parent(self.path))
            try:
                found: dict[str, Any] = self.system.info(self.path)
            except FileNotFoundError:
                return None
        return found

    def entries(self) -> list[dict[str, Any]]:
        """What lies directly below, files and folders, as `info` tells of each."""
        with blamed(self.address, self.field):
            self.system.invalidate_cache(self.path)
            found: list[dict[str, Any]] = self.system.ls(self.path, detail=True)
        return found

    def matches(self) -> list[str]:
        """Paths of the files that a pattern means, sorted; hidden ones and markers of folders are left out."""
        with blamed(self.address, self.field):
            self.system.invalidate_cache()
            try:
                found = self.system.glob(self.path, detail=True)
            except FileNotFoundError:
                return []
            except ValueError as error:
                raise UserError(f"{self.field}: {self.address!r} is no pattern ({error})") from error
        shown = self.path.count("/.")
        return sorted(
            path for path, info in found.items() if info["type"] == "file" and ("/" + path).count("/.") <= shown
        )

    def open(self) -> BinaryIO:
        """A seekable binary stream that reads ahead."""
        with blamed(self.address, self.field):
            stream = self.system.open(self.path, "rb", block_size=_BLOCK, cache_type="readahead")
        return io.BufferedReader(_Guarded(stream, self.address, self.field), _BUFFER)

    def download(self, to: Path) -> None:
        """Copies the object to a file of this machine."""
        with blamed(self.address, self.field):
            self.system.get_file(self.path, str(to))

    def check_bucket(self) -> None:
        """Raises UserError when there is no such bucket; says nothing where it may not be looked into."""
        if self.scheme == "memory":
            return
        try:
            with blamed(self.address, self.field):
                self.system.ls(self.bucket)
        except UserError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise UserError(f"{self.field}: there is no bucket {self.bucket!r} for {self.address!r}") from error
            raise

    def read_bytes(self) -> bytes:
        """The whole object."""
        with blamed(self.address, self.field):
            content: bytes = self.system.cat_file(self.path)
        return content


def version(info: dict[str, Any]) -> list[str]:
    """Size and version of an object, by what its store says of it."""
    return [str(info["size"]), *(f"{name}={info[name]}" for name in _VERSION if info.get(name))]


def _system(scheme: str) -> Any:
    import fsspec

    if scheme == "gs":
        # Not the class that fsspec knows: it asks about the kind of every bucket over a second protocol.
        from gcsfs.core import GCSFileSystem

        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs every error that it then raises
        return GCSFileSystem(**_options(scheme))
    system = fsspec.filesystem(scheme, **_options(scheme))
    if scheme == "s3":
        system.retries = _S3_TRIES
    return system


def _options(scheme: str) -> dict[str, Any]:
    """Our settings for a file system, without those that the user made for fsspec."""
    from fsspec.config import conf

    match scheme:
        case "s3":
            retries = {"total_max_attempts": _CLIENT_TRIES, "mode": "standard"}
            timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
            ours: dict[str, Any] = {"config_kwargs": timeouts | {"retries": retries}}
        case "gs":
            import aiohttp

            ours = {"requests_timeout": aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)}
        case _:
            ours = {}
    return {name: value for name, value in ours.items() if name not in conf.get(scheme, {})}


class _Guarded(io.RawIOBase):
    """A stream of fsspec whose failures name the setting and the place."""

    def __init__(self, stream: Any, address: str, field: str) -> None:
        self._stream, self._address, self._field = stream, address, field

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        place: int = self._stream.seek(offset, whence)
        return place

    def tell(self) -> int:
        place: int = self._stream.tell()
        return place

    def readinto(self, target: Any) -> int:
        with blamed(self._address, self._field):
            content = self._stream.read(len(target))
        target[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()
