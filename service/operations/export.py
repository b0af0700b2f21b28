"""Exporting a checkpoint that a job has committed."""

from pathlib import Path

from anyio.to_thread import run_sync as in_thread

from service.operations import jobs
from service.operations.context import Context
from service.operations.generate import NoCheckpoint
from vishwamai.contract.export import ExportAnswer, ExportRequest, ExportType


async def export(context: Context, job_id: str, step: int, request: ExportRequest) -> ExportAnswer:
    """Writes the checkpoint of `step` as a Hugging Face folder, or finds the one that was written before.

    Raises UnknownJob, NoCheckpoint, UnknownCheckpoint, and what the launcher's `export` raises.
    """
    steps = [one.step for one in (await in_thread(jobs.checkpoints, context, job_id)).checkpoints]
    if not steps:
        raise NoCheckpoint(job_id)
    if step not in steps:
        raise jobs.UnknownCheckpoint(step, steps, field="step")
    return await context.launcher.export(job_id, step, request)


async def file(context: Context, job_id: str, step: int, dtype: ExportType, name: str) -> Path:
    """A file of an export. Raises UnknownJob and NoExport."""
    await in_thread(jobs.get, context, job_id)
    return await context.launcher.exported(job_id, step, dtype, name)
