import jax
import numpy as np
import pytest

from tests.trainer.jobs import tiny_job
from trainer.data import open_tokenizer
from trainer.generate import Sampling, Writer
from trainer.mesh import make_mesh
from trainer.step import init_state

SEQUENCE = {"max_length": 24, "min_length": 3, "pad_token_id": 0, "eos_token_id": 1}


def writer(job):
    return Writer(job, make_mesh(job), open_tokenizer("byte", job.effective.sequence))


class Parrot(Writer):
    """Wants one token more than any other."""

    def __init__(self, job, favourite):
        self.asked = []
        super().__init__(job, make_mesh(job), open_tokenizer("byte", job.effective.sequence))
        self._favourite = favourite
        self._logits = self._say

    def _say(self, params, tokens, lengths):
        self.asked.append((np.array(tokens[0]), int(lengths[0])))
        logits = np.linspace(0.0, 1.0, 258, dtype=np.float32)
        logits[self._favourite] = 50.0
        return logits[None]


@pytest.fixture(scope="module")
def model():
    job = tiny_job(sequence=SEQUENCE)
    return job, init_state(job, make_mesh(job)).params


def test_greedy_text_is_what_the_logits_say(model):
    job, params = model
    text = writer(job).write(params, "abc", Sampling(max_new_tokens=6, temperature=0.0))
    assert text == writer(job).write(params, "abc", Sampling(max_new_tokens=6, temperature=0.0, seed=9))


def test_a_seed_repeats_itself_and_another_differs(model):
    job, params = model
    write = writer(job)
    texts = [write.write(params, "abc", Sampling(max_new_tokens=12, temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_end_is_not_drawn_too_early_and_then_ends():
    parrot = Parrot(tiny_job(sequence=SEQUENCE), favourite=1)
    text = parrot.write({}, "x", Sampling(temperature=0.0))
    assert len(parrot.asked) == 4
    assert text == "\ufffd" * 3  # the last byte, 255, is the next best


def test_padding_is_never_drawn_and_the_text_is_bounded():
    parrot = Parrot(tiny_job(sequence=SEQUENCE), favourite=0)
    parrot.write({}, "x" * 4, Sampling(temperature=1.0))
    assert len(parrot.asked) == 20
    assert all(0 not in tokens[:length] for tokens, length in parrot.asked)


@pytest.mark.parametrize(("prompt", "room"), [("x" * 23, 1), ("x" * 24, 0), ("x" * 100, 0)])
def test_prompt_and_text_together_stay_within_max_length(prompt, room):
    parrot = Parrot(tiny_job(sequence=SEQUENCE), favourite=70)
    text = parrot.write({}, prompt, Sampling(temperature=0.0))
    assert len(text) == len(parrot.asked) == room


def test_an_empty_prompt_begins_a_document():
    parrot = Parrot(tiny_job(sequence=SEQUENCE), favourite=70)
    parrot.write({}, "", Sampling(max_new_tokens=1))
    tokens, length = parrot.asked[0]
    assert (tokens[0], length) == (1, 1)


def test_a_mesh_that_splits_the_batch_writes_the_same(model):
    job, params = model
    alone = writer(job).write(params, "abc", Sampling(max_new_tokens=4, temperature=0.0))
    spread = tiny_job(mesh={"data": 2, "fsdp": 2}, micro_batch=8, sequence=SEQUENCE)
    params = jax.device_get(params)
    assert writer(spread).write(params, "abc", Sampling(max_new_tokens=4, temperature=0.0)) == alone
