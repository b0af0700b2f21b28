"""The state of a run that is over or at work elsewhere, from its output folder."""

from pathlib import Path

from jax.sharding import Mesh

from trainer.checkpoints import Checkpoints
from trainer.errors import UserError
from trainer.step import TrainState, abstract_state
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.resolved import ResolvedJob


def checkpoint_folder(job: ResolvedJob, output: Path) -> Path:
    """Where the job's checkpoints are."""
    return Path(job.effective.checkpoint.directory or output / "checkpoints")


def newest_state(job: ResolvedJob, mesh: Mesh, output: Path) -> TrainState:
    """The newest committed checkpoint of the run in `output`, placed on the mesh; nothing there is changed.

    Raises UserError when there is none.
    """
    return state_at(job, mesh, output, None)


def state_at(job: ResolvedJob, mesh: Mesh, output: Path, step: int | None) -> TrainState:
    """The committed checkpoint of one step, or the newest. Raises UserError when there is none."""
    folder = checkpoint_folder(job, output)
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} holds no checkpoints")
    settings = CheckpointSection(restore="newest" if step is None else step)
    checkpoints = Checkpoints(folder, settings, lambda _: None, read_only=True)
    restored = checkpoints.restore(abstract_state(job, mesh))
    checkpoints.close()
    if restored is None:
        raise UserError(f"{str(folder)!r} holds no committed checkpoint")
    return restored.state
