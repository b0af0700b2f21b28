"""What routes have in common: the context, the raw body, and how query parameters are declared."""

from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from service.operations.context import Context

LARGEST_ID = 2**63 - 1
"""What a database can hold."""


class Parameters(BaseModel):
    """A route's query parameters; a misspelt one is an error and not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


async def _body(request: Request) -> bytes:
    return await request.body()


ContextOf = Annotated[Context, Depends(_context)]
RawBody = Annotated[bytes, Depends(_body)]
JobId = Annotated[str, Path(max_length=64, description="The job's id.", examples=["j01kq9d3x2mzv4t8b7"])]


def accepts(request: Request, media_type: str) -> bool:
    """True when the caller asks for this media type by name."""
    return media_type in request.headers.get("accept", "")
