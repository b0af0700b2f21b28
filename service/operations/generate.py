"""Letting a job's model write, from a checkpoint that it has committed."""

from anyio.to_thread import run_sync as in_thread

from service.operations import jobs
from service.operations.context import Context
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest


class NoCheckpoint(Exception):
    """The job has not committed a checkpoint that is still there."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} has no committed checkpoint yet, so there is nothing that could write")


async def generate(context: Context, job_id: str, request: GenerateRequest) -> GenerateAnswer:
    """Texts from the chosen checkpoint, or the newest, whether the job runs or has ended.

    Raises UnknownJob, NoCheckpoint, UnknownCheckpoint, and what the launcher's `generate` raises.
    """
    steps = [one.step for one in (await in_thread(jobs.checkpoints, context, job_id)).checkpoints]
    if not steps:
        raise NoCheckpoint(job_id)
    if request.step is not None and request.step not in steps:
        raise jobs.UnknownCheckpoint(request.step, steps, field="step")
    step = steps[0] if request.step is None else request.step
    return await context.launcher.generate(job_id, request.model_copy(update={"step": step}))
