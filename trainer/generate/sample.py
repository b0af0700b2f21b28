"""Continues a prompt one token at a time, the whole window computed anew for each: right for a sample, slow for more.

    p(next) = softmax(logits / temperature)        temperature 0 takes the most likely token

The end-of-document token is not drawn before min_length tokens, padding never. Prompt and text together have at most
max_length tokens, which the model's window holds.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from trainer.data import Tokenizer, TrainingData
from trainer.forward import make_next_token_logits
from trainer.model import Params
from trainer.reporting import now
from vishwamai.contract.reports import SampleEvent
from vishwamai.contract.resolved import ResolvedJob

_PROMPT_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw."""

    max_new_tokens: int = 200
    temperature: float = 0.8
    seed: int = 0


class Writer:
    """Writes with one job's model; compiled at the first call."""

    def __init__(self, job: ResolvedJob, mesh: Mesh, tokenizer: Tokenizer) -> None:
        self._logits = make_next_token_logits(job, mesh)
        self._tokenizer = tokenizer
        self._sequence = job.effective.sequence
        # One row for each device that splits the batch: all the same, the first is read.
        self._shape = (job.mesh.data * job.mesh.fsdp, job.effective.model.max_seq_len)

    def write(self, params: Params, prompt: str, sampling: Sampling) -> str:
        """What the model writes after `prompt` (which may be empty), up to its end-of-document token."""
        # A document begins after an end, as in the packed windows.
        ids = [int(i) for i in self._tokenizer.encode(prompt)] or [self._sequence.eos_token_id]
        start = len(ids)
        random = np.random.default_rng(sampling.seed)
        for new in range(max(0, min(sampling.max_new_tokens, self._sequence.max_length - start))):
            logits = self._next_logits(params, ids)
            if new < self._sequence.min_length:
                logits[self._sequence.eos_token_id] = -np.inf
            token = _draw(logits, sampling.temperature, random)
            if token == self._sequence.eos_token_id:
                break
            ids.append(token)
        return self._tokenizer.decode(ids[start:])

    def _next_logits(self, params: Params, row: list[int]) -> np.ndarray:
        tokens = np.full(self._shape, self._sequence.pad_token_id, np.int32)
        tokens[:, : len(row)] = row
        lengths = jnp.full(len(tokens), len(row), jnp.int32)
        logits = np.array(self._logits(params, jnp.asarray(tokens), lengths)[0], np.float64)
        logits[self._tokenizer.vocab_size :] = -np.inf
        if self._sequence.pad_token_id != self._sequence.eos_token_id:
            logits[self._sequence.pad_token_id] = -np.inf
        return logits


def sample(job: ResolvedJob, mesh: Mesh, params: Params, data: TrainingData, step: int) -> SampleEvent:
    """Lets the model go on from the beginning of a text, held out if there is one."""
    batch = next(iter(data.eval_batches()), None) or data.batch(1)
    ids = batch.inputs[0][batch.segments[0] == 1][:_PROMPT_TOKENS]
    prompt = data.tokenizer.decode(np.asarray(ids)).rstrip("\ufffd")
    text = Writer(job, mesh, data.tokenizer).write(params, prompt, Sampling(seed=job.effective.run.seed))
    return SampleEvent(time=now(), step=step, prompt=prompt, text=text)


def _draw(logits: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    if temperature == 0.0:
        return int(logits.argmax())
    chances = np.exp((logits - logits.max()) / temperature)
    return int(random.choice(len(chances), p=chances / chances.sum()))
