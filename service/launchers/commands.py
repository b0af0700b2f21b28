"""Commands of the trainer that are run for a caller who waits: few at once, each for so long, ended if he leaves."""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from service.launchers.base import Busy
from service.launchers.processes import send
from vishwamai.contract.states import Cause, cause_of_exit

_LAST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command runs."""

    output: Path
    """The job's folder."""
    directory: Path
    """The working directory, from which the job's relative paths are taken."""
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wording:
    """What the command is called in messages, and its errors."""

    several: str
    """Such as "generations"."""
    too_long: str
    """What was not ready in time, and what to do; has {seconds} in it."""
    refused: type[Exception]
    """The request or the job is at fault."""
    failed: type[Exception]
    """The process is, or its machine."""


class Commands:
    """Runs one kind of command, `at_once` together at most, each for `seconds` at most."""

    def __init__(
        self,
        command: tuple[str, ...],
        wording: Wording,
        *,
        at_once: int,
        seconds: float,
        answers: tuple[int, ...] = (0,),
    ) -> None:
        """`answers` are the exit codes with which there is an answer."""
        self._command, self._wording, self._at_once, self._seconds = command, wording, at_once, seconds
        self._answers = answers
        self._running = 0

    async def output_of(self, place: Place, options: Sequence[str], given: bytes = b"") -> bytes:
        """What the command prints when it is given `given`. Raises Busy, and the wording's errors."""
        if self._running >= self._at_once:
            raise Busy(
                f"{self._running} of at most {self._at_once} {self._wording.several} are under way; "
                "try again in a moment"
            )
        self._running += 1
        try:
            return await self._run(place, options, given)
        finally:
            self._running -= 1

    async def _run(self, place: Place, options: Sequence[str], given: bytes) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *options,
                cwd=place.directory,
                env=place.environment,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise self._wording.failed(f"its process could not start: {error}") from error
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await process.communicate(given)
        except TimeoutError:
            raise self._wording.refused(self._wording.too_long.format(seconds=f"{self._seconds:g}")) from None
        finally:
            await _end(process)
        if process.returncode not in self._answers:
            raise self._error(process.returncode, err)
        return out

    def _error(self, code: int | None, err: bytes) -> Exception:
        lines = err[-_LAST_BYTES:].decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1]).removeprefix("error: ")
        at_fault = code is not None and cause_of_exit(code) is Cause.USER_ERROR
        return (self._wording.refused if at_fault else self._wording.failed)(said)


async def _end(process: Process) -> None:
    """Kills what is still there, when time is up or the caller has gone."""
    if process.returncode is None:
        send(process.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            await process.wait()
