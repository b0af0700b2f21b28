"""What a cache in FP8 costs a model that has learned something."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainer.data.tokenizers import open_tokenizer
from trainer.forward import output_logits
from trainer.generate.generator import Generator, Limits
from trainer.generate.passes import Passes
from trainer.huggingface import load_params, read_source
from trainer.huggingface.plain import plain_job
from trainer.mesh import make_mesh
from vishwamai.contract.generation import Sampling

DATA = Path(__file__).parent / "data"
ROWS, PROMPT, T = 16, 32, 128


class Trained:
    """The model of data/README.md."""

    def __init__(self):
        source = read_source(DATA / "model")
        self.job, self.params = plain_job(source.model), load_params(source)
        self.mesh = make_mesh(self.job)
        ids = open_tokenizer("byte", self.job.effective.sequence).encode((DATA / "text.txt").read_text())
        self.rows = ids[: ROWS * T].reshape(ROWS, T).astype(np.int32)

    def logits(self, kept, rows):
        """float32 [B, T, V], everything read through a cache of this format."""
        passes = Passes(self.job, self.mesh, kept)
        hidden, _ = jax.jit(passes.extend)(
            self.params, passes.empty(*rows.shape), rows, jnp.zeros(len(rows), jnp.int32)
        )
        return np.asarray(output_logits(self.job.effective.model, self.params, hidden))


@pytest.fixture(scope="module")
def trained():
    return Trained()


@pytest.fixture(scope="module")
def perplexities(trained):
    def perplexity(kept):
        logits = trained.logits(kept, trained.rows)[:, :-1].astype(np.float64)
        log_chances = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return np.exp(-np.take_along_axis(log_chances, trained.rows[:, 1:, None], -1).mean())

    return {kept: perplexity(kept) for kept in ("fp8", "bf16")}


def test_perplexity_stays_within_half_a_percent(perplexities):
    assert 2 < perplexities["bf16"] < 15  # of 258: it has learned
    assert abs(perplexities["fp8"] / perplexities["bf16"] - 1) < 0.005


def test_greedy_ids_are_those_of_a_bfloat16_cache(trained):
    # Token by token along the text that the bfloat16 cache writes: one other token would change all that follow it.
    generator = Generator(trained.job, trained.mesh, "bf16")
    sampling = Sampling(max_new_tokens=T - PROMPT, temperature=0.0, min_length=0)
    prompts = trained.rows[:, :PROMPT]
    found = generator.generate(trained.params, prompts.tolist(), sampling, Limits(T, ()))
    written = np.array([one.tokens for one in found], np.int32)
    whole = np.concatenate([prompts, written], 1)
    chosen = trained.logits("fp8", whole)[:, PROMPT - 1 : -1].argmax(-1)
    assert np.mean(chosen == written) >= 0.98
    assert len(np.unique(written)) > 10
