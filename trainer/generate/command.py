"""Text from the newest checkpoint of a run's output folder."""

from pathlib import Path

from trainer.checkpoints import Checkpoints
from trainer.data import check_fits, open_tokenizer
from trainer.errors import UserError
from trainer.generate.sample import Sampling, Writer
from trainer.mesh import make_mesh
from trainer.run import checkpoint_folder
from trainer.step import abstract_state
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.resolved import ResolvedJob


def generate(job: ResolvedJob, output: Path, prompt: str, *, max_new_tokens: int, temperature: float, seed: int) -> str:
    """What the model of the newest committed checkpoint writes after the prompt."""
    tokenizer = open_tokenizer(job.effective.data.tokenizer, job.effective.sequence)
    check_fits(tokenizer, job.effective.model)
    folder = checkpoint_folder(job, output)
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} holds no checkpoints")
    mesh = make_mesh(job)
    checkpoints = Checkpoints(folder, CheckpointSection(), lambda _: None, read_only=True)
    restored = checkpoints.restore(abstract_state(job, mesh))
    checkpoints.close()
    if restored is None:
        raise UserError(f"{str(folder)!r} holds no committed checkpoint")
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    return Writer(job, mesh, tokenizer).write(restored.state.params, prompt, sampling)
