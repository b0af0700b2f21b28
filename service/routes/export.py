"""Checkpoints as Hugging Face folders."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse
from pydantic import Field

from service.operations import export
from service.routes.parts import ContextOf, JobId, Parameters
from service.routes.problems import documented
from vishwamai.contract.export import ExportAnswer, ExportedName, ExportRequest, ExportType

router = APIRouter(tags=["jobs"])
Step = Annotated[int, Path(ge=0, lt=2**31, description="Step of a committed checkpoint.", examples=[100])]
FileName = Annotated[ExportedName, Path(description="A file of the export.", examples=["config.json"])]


class FileParameters(Parameters):
    """Of which export."""

    dtype: ExportType = Field("float32", description="Number format that was asked for.")


@router.post(
    "/jobs/{job_id}/checkpoints/{step}:export",
    response_model=ExportAnswer,
    responses=documented(404, 409, 413, 422, 429, 500, 501, 503),
)
async def export_checkpoint(
    context: ContextOf, job_id: JobId, step: Step, request: ExportRequest | None = None
) -> ExportAnswer:
    """Writes a committed checkpoint as a Hugging Face folder: safetensors, config.json, tokenizer. May be repeated."""
    return await export.export(context, job_id, step, request or ExportRequest())


@router.get(
    "/jobs/{job_id}/checkpoints/{step}/export/{name}",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The file.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **documented(404, 422, 501, 503),
    },
)
async def get_exported_file(
    context: ContextOf, job_id: JobId, step: Step, name: FileName, parameters: Annotated[FileParameters, Query()]
) -> FileResponse:
    """A file of an export that was made before."""
    path = await export.file(context, job_id, step, parameters.dtype, name)
    return FileResponse(path, media_type="application/octet-stream")
