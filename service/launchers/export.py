"""A job's checkpoint as a Hugging Face folder: `python -m trainer export` as a process of this machine.

DATA_DIR/jobs/ID/exports/STEP-DTYPE/     whole, or absent: it is written under another name and renamed
"""

import shutil
import uuid
from pathlib import Path

from anyio.to_thread import run_sync as in_thread

from service.launchers.base import ExportFailed, ExportRefused, NoExport
from service.launchers.commands import Commands, Place, Wording
from vishwamai.contract.export import ExportAnswer, ExportedFile, ExportRequest, ExportType

FOLDER = "exports"
_WORDING = Wording(
    several="exports",
    too_long="the export was not ready after {seconds} seconds, the most that is allowed (VISHWAMAI_EXPORT_SECONDS)",
    refused=ExportRefused,
    failed=ExportFailed,
)


class Exports(Commands):
    """Starts exports, one at a time, and finds those that are done."""

    def __init__(self, command: tuple[str, ...], *, seconds: float) -> None:
        """`command` takes the options of `python -m trainer export`."""
        super().__init__(command, _WORDING, at_once=1, seconds=seconds)

    async def run(self, place: Place, step: int, request: ExportRequest) -> ExportAnswer:
        """Raises Busy, ExportRefused when the job is at fault, ExportFailed otherwise."""
        folder = _folder(place.output, step, request.dtype)
        if not folder.is_dir():
            partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
            options = [f"--from={place.output}", f"--step={step}", f"--to={partial}", f"--dtype={request.dtype}"]
            try:
                await self.output_of(place, options)
                partial.rename(folder)
            except OSError as error:
                raise ExportFailed(f"the export could not be put in its place: {error}") from error
            finally:
                await in_thread(lambda: shutil.rmtree(partial, ignore_errors=True))
        files = [ExportedFile(name=path.name, size_bytes=path.stat().st_size) for path in sorted(folder.iterdir())]
        return ExportAnswer(step=step, dtype=request.dtype, folder=str(folder), files=files)


def exported_file(output: Path, step: int, dtype: ExportType, name: str) -> Path:
    """A file of an export that is done. Raises NoExport."""
    folder = _folder(output, step, dtype)
    if not folder.is_dir():
        raise NoExport(f"the checkpoint of step {step} has not been exported as {dtype}: POST that first")
    path = folder / name
    if path.parent != folder or not path.is_file():
        there = ", ".join(sorted(one.name for one in folder.iterdir()))
        raise NoExport(f"the export of step {step} has no file {name}: there are {there}")
    return path


def _folder(output: Path, step: int, dtype: ExportType) -> Path:
    return output / FOLDER / f"{step}-{dtype}"
