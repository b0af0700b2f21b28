"""Text from a job's model."""

from fastapi import APIRouter

from service.operations import generate
from service.routes.parts import ContextOf, JobId
from service.routes.problems import documented
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/{job_id}:generate",
    response_model=GenerateAnswer,
    responses=documented(404, 409, 413, 422, 429, 500, 501, 503),
)
async def generate_text(context: ContextOf, job_id: JobId, request: GenerateRequest) -> GenerateAnswer:
    """Lets a job's model go on from prompts, from its newest committed checkpoint or a chosen one."""
    return await generate.generate(context, job_id, request)
