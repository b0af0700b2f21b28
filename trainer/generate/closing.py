"""The sample that ends a run."""

import numpy as np
from jax.sharding import Mesh

from trainer.data.loader import TrainingData
from trainer.generate.writer import Writer
from trainer.model import Params
from trainer.reporting import now
from vishwamai.contract.generation import Sampling
from vishwamai.contract.reports import SampleEvent
from vishwamai.contract.resolved import ResolvedJob

_PROMPT_TOKENS = 32


def sample(job: ResolvedJob, mesh: Mesh, params: Params, data: TrainingData, step: int) -> SampleEvent:
    """Lets the model go on from the beginning of a text, held out if there is one."""
    batch = next(iter(data.eval_batches()), None) or data.batch(1)
    ids = np.asarray(batch.inputs[0][batch.segments[0] == 1][:_PROMPT_TOKENS])
    prompt = data.tokenizer.decode(ids).rstrip("\ufffd")
    sampling = Sampling(seed=job.effective.run.seed)
    [written] = Writer(job, mesh, data.tokenizer).write(params, [prompt], sampling)
    return SampleEvent(time=now(), step=step, prompt=prompt, text=written.text)
