"""Keeps web pages of others out of a service that is open to its own machine.

A browser on this machine can be led here by any page: under a foreign name that resolves to 127.0.0.1 (the Host header
tells), or by a cross-site request that changes something (the Origin header tells).
"""

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from service.settings import is_loopback

_SAFE = {"GET", "HEAD", "OPTIONS"}


def refused_origin(method: str, headers: Mapping[str, str]) -> str | None:
    """Why a request must not be answered, or None when it may."""
    host = headers.get("host", "")
    if not is_loopback(_split(f"//{host}").hostname or ""):
        return f"this service answers to localhost only, not to the name {host!r}"
    origin = headers.get("origin")
    if origin is not None and method not in _SAFE and _split(origin).netloc != host:
        return f"requests from pages of {origin!r} may change nothing here"
    return None


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")
