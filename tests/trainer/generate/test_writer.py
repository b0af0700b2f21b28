import jax
import pytest

from tests.trainer.jobs import tiny_job
from trainer.data.tokenizers import open_tokenizer
from trainer.generate.generator import Limits
from trainer.generate.writer import Writer
from trainer.mesh import make_mesh
from trainer.model import init_params
from vishwamai.contract.generation import Sampling

SEQUENCE = {"max_length": 32, "min_length": 3, "pad_token_id": 0, "eos_token_id": 1}
GREEDY = Sampling(max_new_tokens=20, temperature=0.0)


JOB = tiny_job(model={"vocab_size": 300}, sequence=SEQUENCE)
TOKENIZER = open_tokenizer("byte", JOB.effective.sequence)


@pytest.fixture(scope="module")
def model():
    """Writes bytes; random weights, large enough that it prefers some tokens."""
    params = jax.tree.map(lambda x: 3 * x, init_params(JOB.effective.model, jax.random.key(2)))
    return Writer(JOB, make_mesh(JOB), TOKENIZER), params


def test_a_seed_repeats_itself_and_another_differs(model):
    writer, params = model
    texts = [writer.write(params, ["abc"], Sampling(max_new_tokens=12, seed=seed))[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_text_ends_before_a_stop_string(model):
    writer, params = model
    [free] = writer.write(params, ["abc"], GREEDY)
    assert (free.ended, free.new_tokens, free.prompt_tokens) == ("length", 20, 3)
    stop = free.text[4:6]
    at = free.text.index(stop)
    with_stop = GREEDY.model_copy(update={"stop": ["no such text", stop, free.text[9:]]})
    [cut, other] = writer.write(params, ["abc", ""], with_stop)
    assert cut.text == free.text[:at]
    assert cut.ended == "stop"
    # Bytes beyond ASCII are no text alone, so characters and tokens need not agree.
    assert at + 1 <= cut.new_tokens <= 20
    assert (other.prompt, other.prompt_tokens) == ("", 1)


def test_the_jobs_min_length_holds_unless_told_otherwise(model):
    writer, params = model
    # The likeliest first id shall be the end.
    [first] = writer.generator.generate(params, [[100, 101]], GREEDY, Limits(32, ()))
    ends = Writer(JOB, make_mesh(JOB), TOKENIZER, eos_ids=(first.tokens[0],))
    prompt = TOKENIZER.decode([100, 101])
    [later] = ends.write(params, [prompt], GREEDY)
    assert later.new_tokens >= 3
    [at_once] = ends.write(params, [prompt], GREEDY.model_copy(update={"min_length": 0}))
    assert (at_once.new_tokens, at_once.text, at_once.ended) == (0, "", "eos")


def test_only_ids_with_a_text_are_drawn(model):
    writer, params = model
    tokens = []
    tokenizer = writer._tokenizer

    class Spy:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def decode(self, ids):
            tokens.extend(ids)
            return tokenizer.decode(ids)

    writer._tokenizer = Spy()
    try:
        writer.write(params, ["y"] * 64, Sampling(temperature=100.0, max_new_tokens=8))
    finally:
        writer._tokenizer = tokenizer
    assert len(set(tokens)) > 100
    assert 0 not in tokens
    assert max(tokens) < 258
