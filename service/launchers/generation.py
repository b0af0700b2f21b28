"""Text from a job's checkpoint: `python -m trainer generate` as a process of this machine, of which few run at once.

It only reads the job's folder, so a job that trains goes on undisturbed but for the machine's time.
"""

import asyncio
import json
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from service.launchers.base import Busy, GenerationFailed, GenerationRefused
from service.launchers.processes import send
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest
from vishwamai.contract.states import Cause, cause_of_exit

_LAST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a generation runs."""

    output: Path
    """The job's folder."""
    directory: Path
    """The working directory, from which the job's relative paths are taken."""
    environment: Mapping[str, str]


class Generations:
    """Starts generations, `at_once` together at most, each for `seconds` at most."""

    def __init__(self, command: tuple[str, ...], *, at_once: int, seconds: float) -> None:
        """`command` takes the options of `python -m trainer generate`."""
        self._command, self._at_once, self._seconds = command, at_once, seconds
        self._running = 0

    async def run(self, place: Place, request: GenerateRequest) -> GenerateAnswer:
        """Raises Busy, GenerationRefused when the request or the job is at fault, GenerationFailed otherwise."""
        if self._running >= self._at_once:
            raise Busy(f"{self._running} of at most {self._at_once} generations are under way; try again in a moment")
        self._running += 1
        try:
            return await self._run(place, request)
        finally:
            self._running -= 1

    async def _run(self, place: Place, request: GenerateRequest) -> GenerateAnswer:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *_options(place.output, request),
                cwd=place.directory,
                env=place.environment,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise GenerationFailed(f"the generating process could not start: {error}") from error
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await process.communicate(json.dumps(request.prompts).encode())
        except TimeoutError:
            raise GenerationRefused(
                f"the texts were not ready after {self._seconds:g} seconds, the most that is allowed: "
                "ask for fewer prompts, or a smaller max_new_tokens"
            ) from None
        finally:
            await _end(process)
        return _answer(process.returncode, out, err)


def _options(output: Path, request: GenerateRequest) -> list[str]:
    """The request as options; prompts go through standard input."""
    given = request.model_dump(exclude={"prompts", "stop"}, exclude_none=True)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    return [f"--from={output}", "--prompts=-", "--output=json", *options, *(f"--stop={stop}" for stop in request.stop)]


def _answer(code: int | None, out: bytes, err: bytes) -> GenerateAnswer:
    if code != 0:
        lines = err[-_LAST_BYTES:].decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1]).removeprefix("error: ")
        at_fault = code is not None and cause_of_exit(code) is Cause.USER_ERROR
        raise (GenerationRefused if at_fault else GenerationFailed)(said)
    try:
        return GenerateAnswer.model_validate_json(out)
    except ValidationError as error:
        raise GenerationFailed(f"the generating process answered something else: {error}") from error


async def _end(process: Process) -> None:
    """Kills what is still there, when time is up or the caller has gone."""
    if process.returncode is None:
        send(process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            await process.wait()
