"""Text from a job's checkpoint: `python -m trainer generate` as a process of this machine.

It only reads the job's folder, so a job that trains goes on undisturbed but for the machine's time.
"""

import json
from pathlib import Path

from pydantic import ValidationError

from service.launchers.base import GenerationFailed, GenerationRefused
from service.launchers.commands import Commands, Place, Wording
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest

_WORDING = Wording(
    several="generations",
    too_long="the texts were not ready after {seconds} seconds, the most that is allowed: "
    "ask for fewer prompts, or a smaller max_new_tokens",
    refused=GenerationRefused,
    failed=GenerationFailed,
)


class Generations(Commands):
    """Starts generations."""

    def __init__(self, command: tuple[str, ...], *, at_once: int, seconds: float) -> None:
        """`command` takes the options of `python -m trainer generate`."""
        super().__init__(command, _WORDING, at_once=at_once, seconds=seconds)

    async def run(self, place: Place, request: GenerateRequest) -> GenerateAnswer:
        """Raises Busy, GenerationRefused when the request or the job is at fault, GenerationFailed otherwise."""
        out = await self.output_of(place, _options(place.output, request), json.dumps(request.prompts).encode())
        try:
            return GenerateAnswer.model_validate_json(out)
        except ValidationError as error:
            raise GenerationFailed(f"the generating process answered something else: {error}") from error


def _options(output: Path, request: GenerateRequest) -> list[str]:
    """The request as options; prompts go through standard input."""
    given = request.model_dump(exclude={"prompts", "stop"}, exclude_none=True)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [f"--from={output}", "--prompts=-", "--output=json", *options, *(f"--stop={stop}" for stop in request.stop)]
