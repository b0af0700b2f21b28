import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.trainer.huggingface.goldens import FOLDER, NAMES, golden_of
from tests.trainer.jobs import tiny_job
from trainer.forward import make_hidden_states, output_logits
from trainer.generate.generator import Generator, Limits, bucket, cache_format
from trainer.generate.passes import Passes
from trainer.huggingface import load_params, read_source
from trainer.huggingface.plain import plain_job
from trainer.mesh import make_mesh
from trainer.model import init_params
from vishwamai.contract.generation import Sampling

GREEDY = Sampling(max_new_tokens=12, temperature=0.0, min_length=0)
WINDOWS = {
    "num_layers": 4,
    "sliding_window": 6,
    "layer_pattern": ["sliding", "full"],
    "attention_softcap": 2.0,
    "logit_softcap": 3.0,
    "attention_scale": 0.5,
    "embedding_scale": True,
    "num_kv_heads": 2,
}
NORMS = {
    "num_layers": 3,
    "norm_offset": True,
    "post_norms": True,
    "qk_norm": True,
    "qkv_bias": True,
    "sliding_window": 5,
    "layer_pattern": ["full", "sliding", "sliding"],
    "rope_local_theta": 50.0,
    "rope_scaling": {"kind": "linear", "factor": 4.0},
    "num_kv_heads": 1,
    "activation": "swiglu",
    "tie_embeddings": False,
}


@pytest.fixture(scope="module")
def model():
    """A model with weights large enough that it prefers some tokens, and its generator."""
    job = tiny_job(sequence={"chunk_size": 5, "max_length": 32})
    params = jax.tree.map(lambda x: 3 * x, init_params(job.effective.model, jax.random.key(0)))
    return Generator(job, make_mesh(job), "float32"), params


@pytest.mark.parametrize("name", NAMES)
def test_greedy_ids_are_those_of_transformers(name):
    golden, source = golden_of(name), read_source(FOLDER / name)
    job = plain_job(source.model)
    sequence = job.effective.sequence.model_copy(update={"chunk_size": 3})
    job = job.model_copy(update={"effective": job.effective.model_copy(update={"sequence": sequence})})
    generator = Generator(job, make_mesh(job), "float32")
    count = golden["new_ids"].shape[1]
    prompts, sampling = golden["prompt_ids"].tolist(), GREEDY.model_copy(update={"max_new_tokens": count})
    found = generator.generate(load_params(source), prompts, sampling, Limits(64, ()))
    assert [one.tokens for one in found] == golden["new_ids"].tolist()


@pytest.mark.parametrize("variant", [WINDOWS, NORMS], ids=["windows", "norms"])
def test_passes_over_a_cache_compute_what_the_whole_window_does(variant):
    job = tiny_job(model=variant)
    mesh = make_mesh(job)
    params = init_params(job.effective.model, jax.random.key(1))
    tokens = np.random.default_rng(0).integers(0, 258, (2, 23)).astype(np.int32)
    _, wanted = make_hidden_states(job, mesh)(params, tokens, np.ones_like(tokens))
    passes = Passes(job, mesh, "float32")
    cache, extend, found = passes.empty(2, 32), jax.jit(passes.extend), []
    for start, end in ((0, 7), (7, 14), (14, 21), (21, 22), (22, 23)):
        hidden, cache = extend(params, cache, tokens[:, start:end], jnp.full(2, start))
        found.append(output_logits(job.effective.model, params, hidden))
    # Sums in another order, through five layers: logits of size 1 differ by 1e-6.
    np.testing.assert_allclose(jnp.concatenate(found, 1), wanted, atol=2e-5)


def test_rows_of_different_lengths_do_not_disturb_each_other(model):
    generator, params = model
    prompts = [[5, 6, 7, 8, 9, 10, 11], [40]]
    for sampling in (GREEDY, GREEDY.model_copy(update={"temperature": 1.0, "top_k": 20, "repetition_penalty": 1.5})):
        together = generator.generate(params, prompts, sampling, Limits(32, ()))
        alone = generator.generate(params, prompts[:1], sampling, Limits(32, ()))
        assert together[0] == alone[0]
        assert together[1] != alone[0]
        assert all(len(one.tokens) == 12 for one in together)


def test_the_end_ends_one_row_and_not_before_min_length(model):
    generator, params = model
    prompts = [[5, 6, 7], [40, 41]]
    free = [one.tokens for one in generator.generate(params, prompts, GREEDY, Limits(32, ()))]
    end = free[0][6]
    assert end not in free[1]
    at = free[0].index(end)
    ended, other = generator.generate(params, prompts, GREEDY, Limits(32, (end, 257)))
    assert (ended.tokens, ended.ended) == (free[0][:at], True)
    assert (other.tokens, other.ended) == (free[1], False)
    later = GREEDY.model_copy(update={"min_length": at + 2})
    assert len(generator.generate(params, prompts, later, Limits(32, (end,)))[0].tokens) >= at + 2


def test_barred_ids_are_never_drawn(model):
    generator, params = model
    wild = Sampling(max_new_tokens=24, temperature=5.0, min_length=0)
    barred = tuple(range(0, 258, 2))
    [one] = generator.generate(params, [[5]], wild, Limits(32, (), barred))
    assert len(one.tokens) == 24
    assert all(i % 2 for i in one.tokens)


@pytest.mark.parametrize(("length", "room"), [(31, 1), (32, 0), (100, 0)])
def test_prompt_and_text_stay_within_max_length(model, length, room):
    generator, params = model
    found = generator.generate(params, [[7] * length, [8]], GREEDY, Limits(32, ()))
    assert [len(one.tokens) for one in found] == [room, 12]


def test_a_repetition_penalty_forbids_what_was_seen(model):
    generator, params = model
    free = generator.generate(params, [[5, 6, 7]], GREEDY.model_copy(update={"max_new_tokens": 24}), Limits(32, ()))
    assert len(set(free[0].tokens)) < 24
    strict = GREEDY.model_copy(update={"repetition_penalty": 100.0, "max_new_tokens": 24})
    [one] = generator.generate(params, [[5, 6, 7]], strict, Limits(32, ()))
    assert len({5, 6, 7, *one.tokens}) == 27


def test_a_mesh_writes_the_same(model):
    _, params = model
    prompts = [[5, 6, 7, 8, 9, 10], [40, 41]]
    answers = []
    for mesh in ({}, {"fsdp": 2, "model": 2}):
        job = tiny_job(
            mesh=mesh, sequence={"chunk_size": 5}, execution={"weight_axes": ["fsdp"], "weight_gather": "layer"}
        )
        generator = Generator(job, make_mesh(job), "fp8")
        answers.append(generator.generate(params, prompts, GREEDY, Limits(32, ())))
    assert answers[0] == answers[1]


def test_cache_formats_follow_the_job():
    assert cache_format(tiny_job()) == "fp8"
    plain = {"kv_cache_fp8": False}
    assert cache_format(tiny_job(memory=plain)) == "float32"
    assert cache_format(tiny_job(compute="bfloat16", memory=plain)) == "bf16"


def test_buckets_hold_what_is_asked_and_little_more():
    for length in range(1, 5000, 7):
        assert length <= bucket(length) <= max(64, 1.5 * length)
    assert len({bucket(length) for length in range(1, 100_000)}) < 24
