"""The weights of a run that is over or at work elsewhere, from its output folder."""

import logging
from pathlib import Path

from jax.sharding import Mesh
from pydantic import ValidationError

from trainer.checkpoints import Checkpoints, place_of
from trainer.errors import UserError
from trainer.kept_job import kept_job
from trainer.model import Params
from trainer.step import abstract_state
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.resolved import ResolvedJob

_LOG = logging.getLogger(__name__)


def find_run(source: str) -> tuple[ResolvedJob, Path, int | None] | None:
    """The run of which `source` is the output folder, the place of its checkpoints, or one checkpoint.

    Gives its job, its output folder, and the step if one is named; None when it is no run's. A checkpoint whose run's
    folder is elsewhere says itself what it is of.

    Raises UserError when the run's resolved.json cannot be used.
    """
    place = place_of(source)
    step = int(place.name) if place.name.isdecimal() and (place / "extra").exists() else None
    outputs = [place, place.parent] if step is None else [place.parent.parent]
    for output in outputs:
        if (resolved := output / "resolved.json").exists():
            try:
                return ResolvedJob.model_validate_json(resolved.read_bytes()), Path(output), step
            except ValidationError as error:
                raise UserError(f"{str(resolved)!r} is not the resolved job of a launcher or a run: {error}") from error
    directory = place if step is None else place.parent
    return _from_a_checkpoint(str(directory), step)


def _from_a_checkpoint(directory: str, step: int | None) -> tuple[ResolvedJob, Path, int | None] | None:
    if not place_of(directory).exists():
        return None
    checkpoints = Checkpoints(directory, CheckpointSection(), lambda _: None, read_only=True)
    try:
        steps = checkpoints.committed_steps()
        if not steps:
            return None
        extra = checkpoints.extra(steps[-1] if step is None else step)
    finally:
        checkpoints.close()
    return kept_job(extra, directory), Path(), step


def checkpoint_folder(job: ResolvedJob, output: Path) -> str:
    """The folder or address where the job's checkpoints are."""
    return job.effective.checkpoint.directory or str(output / "checkpoints")


def params_at(job: ResolvedJob, mesh: Mesh, output: Path, step: int | None) -> tuple[Params, int]:
    """What the run in `output` trained, of one committed checkpoint or the newest, on the mesh; and its step.

    The optimizer's arrays are not read, and nothing there is changed. Raises UserError when there is none such.
    """
    folder = checkpoint_folder(job, output)
    settings = CheckpointSection(restore="newest" if step is None else step)
    checkpoints = Checkpoints(folder, settings, lambda _: None, read_only=True)
    try:
        there = checkpoints.committed_steps()
        if step is not None and step not in there:
            listed = ", ".join(map(str, there)) or "none at all"
            raise UserError(f"{folder!r} holds no checkpoint of step {step}: choose one of those there are ({listed})")
        found = checkpoints.read_part({"params": abstract_state(job, mesh).params})
    finally:
        checkpoints.close()
    if found is None:
        raise UserError(f"{folder!r} holds no checkpoints")
    if found[1] < max(there) and step is None:
        _LOG.warning("the newest checkpoint in %r is damaged: that of step %d is used", folder, found[1])
    return found[0]["params"], found[1]
