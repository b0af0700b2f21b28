"""Text from the newest checkpoint of a run's output folder."""

from pathlib import Path

from trainer.data import check_fits, open_tokenizer
from trainer.generate.sample import Sampling, Writer
from trainer.mesh import make_mesh
from trainer.restored import newest_state
from vishwamai.contract.resolved import ResolvedJob


def generate(job: ResolvedJob, output: Path, prompt: str, *, max_new_tokens: int, temperature: float, seed: int) -> str:
    """What the model of the newest committed checkpoint writes after the prompt."""
    tokenizer = open_tokenizer(job.effective.data.tokenizer, job.effective.sequence)
    check_fits(tokenizer, job.effective.model)
    mesh = make_mesh(job)
    state = newest_state(job, mesh, output)
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    return Writer(job, mesh, tokenizer).write(state.params, prompt, sampling)
