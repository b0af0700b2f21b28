"""The weights of a run that is over or at work elsewhere, from its output folder."""

from pathlib import Path

from jax.sharding import Mesh

from trainer.checkpoints import Checkpoints
from trainer.errors import UserError
from trainer.model import Params
from trainer.step import abstract_state
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.resolved import ResolvedJob


def checkpoint_folder(job: ResolvedJob, output: Path) -> str:
    """The folder or address where the job's checkpoints are."""
    return job.effective.checkpoint.directory or str(output / "checkpoints")


def params_at(job: ResolvedJob, mesh: Mesh, output: Path, step: int | None) -> tuple[Params, int]:
    """What the run in `output` trained, of one committed checkpoint or the newest, on the mesh; and its step.

    The optimizer's arrays are not read, and nothing there is changed. Raises UserError when there is no such checkpoint.
    """
    folder = checkpoint_folder(job, output)
    settings = CheckpointSection(restore="newest" if step is None else step)
    checkpoints = Checkpoints(folder, settings, lambda _: None, read_only=True)
    found = checkpoints.read_part({"params": abstract_state(job, mesh).params})
    checkpoints.close()
    if found is None:
        raise UserError(f"{folder!r} holds no checkpoints")
    return found[0]["params"], found[1]
