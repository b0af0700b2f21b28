"""The Python SDK: `Client` speaks to a control plane and returns the contract's own values."""

from vishwamai.client.errors import (
    ApiError,
    BadAddress,
    ClientError,
    Conflict,
    InvalidRequest,
    NotFound,
    ServerFault,
    Unreachable,
)
from vishwamai.client.http import DEFAULT_SERVER, Client

__all__ = [
    "DEFAULT_SERVER",
    "ApiError",
    "BadAddress",
    "Client",
    "ClientError",
    "Conflict",
    "InvalidRequest",
    "NotFound",
    "ServerFault",
    "Unreachable",
]
