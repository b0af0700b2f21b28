import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.mesh import make_mesh
from trainer.model import describe, init_params
from trainer.model.layers import dropout
from trainer.step import computation, init_state, make_eval_step

PLAIN = {"dropout_rate": 0.0}
VARIANTS = {
    "guide's": {},
    "untied, grouped, swiglu": {"tie_embeddings": False, "num_kv_heads": 2, "activation": "swiglu"},
    "one kv head, geglu": {"num_kv_heads": 1, "activation": "geglu"},
    "erf gelu, heads wider than hidden": {"activation": "gelu_exact", "head_dim": 16, "rope_theta": 500.0},
}


def build(**model):
    job = tiny_job(model=PLAIN | model)
    params = init_params(job.effective.model, jax.random.key(1))
    return job, params


def hidden_states(job, params, inputs, positions, segments, **changes):
    how = dataclasses.replace(computation(job, make_mesh(job)), **changes)
    decoder = nnx.merge(describe(job.effective.model).graph, params)
    return decoder(jnp.asarray(inputs), jnp.asarray(positions), jnp.asarray(segments), how)


def reference_logits(config, params, batch):
    """The whole decoder in numpy float64, one window at a time."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    erf = np.vectorize(math.erf)

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * scale

    def act(x):
        if config.activation == "swiglu":
            return x / (1 + np.exp(-x))
        if config.activation == "gelu_exact":
            return 0.5 * x * (1 + erf(x / np.sqrt(2)))
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def turn(x, positions):  # [T, n, D]: a plane is a complex number
        half = x.shape[-1] // 2
        angle = positions[:, None] * config.rope_theta ** (-np.arange(half) / half)
        plane = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None]
        return np.concatenate([plane.real, plane.imag], -1)

    def window(tokens, positions, segments):
        x = p["embedding"][tokens]
        T = len(tokens)
        see = np.tril(np.ones((T, T), bool)) & (segments[:, None] == segments) & (segments > 0)
        for i in range(config.num_layers):
            w = jax.tree.map(lambda leaf, i=i: leaf[i], p["blocks"])
            h = norm(x, w["attention_norm"]["scale"])
            q, k, v = (np.einsum("th,hnd->tnd", h, w["attention"][name]) for name in ("query", "key", "value"))
            k, v = (np.repeat(y, config.num_heads // config.kv_heads, axis=1) for y in (turn(k, positions), v))
            scores = np.einsum("tnd,snd->nts", turn(q, positions), k) / np.sqrt(config.head_dim)
            e = np.where(see, np.exp(scores), 0.0)
            mixed = np.einsum("nts,snd->tnd", e / np.maximum(e.sum(-1, keepdims=True), 1e-300), v)
            x = x + np.einsum("tnd,ndh->th", mixed, w["attention"]["out"])
            h = norm(x, w["mlp_norm"]["scale"])
            up = h @ w["mlp"]["up"]
            x = x + (act(h @ w["mlp"]["gate"]) * up if "gate" in w["mlp"] else act(up)) @ w["mlp"]["down"]
        return norm(x, p["norm"]["scale"]) @ p.get("head", p["embedding"]).T

    return np.stack([window(*row) for row in zip(batch.inputs, batch.positions, batch.segments, strict=True)])


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_forward_pass_is_that_of_the_definition(model):
    job, params = build(**model)
    # Scales other than 1 and tables larger than at the start, so that each of them shows.
    params = jax.tree.map(lambda x: x * 1.5 + 0.01, params)
    batch = random_batch(job, sequences=2)
    hidden = hidden_states(job, params, batch.inputs, batch.positions, batch.segments)
    decoder = nnx.merge(describe(job.effective.model).graph, params)
    expected = reference_logits(job.effective.model, params, batch)
    assert np.abs(expected).max() > 1.0
    # float32 rounding through two layers; any wrong detail moves logits by more than 1e-3.
    np.testing.assert_allclose(decoder.logits(hidden, computation(job, make_mesh(job))), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_parameters_are_those_the_job_counts_and_each_axis_has_a_name(model):
    job, params = build(**model)
    description = describe(job.effective.model)
    assert description.count == job.parameters == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda leaf: leaf.shape, description.shapes)
    jax.tree.map(lambda leaf, axes: len(leaf.shape) == len(axes) or pytest.fail(f"{axes}"), params, description.axes)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    assert all(axes[0] == "layers" for axes in jax.tree.leaves(description.axes["blocks"], is_leaf=_is_axes))


def _is_axes(x):
    return isinstance(x, tuple)


def test_matrices_decay_and_norm_scales_do_not():
    matrices = describe(tiny_job(model={"tie_embeddings": False, "activation": "swiglu"}).effective.model).matrices()
    assert matrices == {
        "embedding": True,
        "head": True,
        "norm": {"scale": False},
        "blocks": {
            "attention": {"query": True, "key": True, "value": True, "out": True},
            "attention_norm": {"scale": False},
            "mlp": {"gate": True, "up": True, "down": True},
            "mlp_norm": {"scale": False},
        },
    }


@pytest.mark.parametrize(
    ("vocab", "hidden", "layers", "heads", "tied"),
    [
        (258, 64, 2, 4, True),
        (258, 256, 4, 4, True),
        (258, 256, 4, 4, False),
        (2000, 96, 12, 3, False),
        (258, 16, 1, 2, True),
    ],
)
def test_initial_loss_is_that_of_a_uniform_guess(vocab, hidden, layers, heads, tied):
    job = tiny_job(
        model={
            "vocab_size": vocab, "hidden_dim": hidden, "num_layers": layers, "num_heads": heads,
            "head_dim": hidden // heads, "mlp_dim": 4 * hidden, "tie_embeddings": tied, "dropout_rate": 0.0,
        },
        execution={"loss_chunk_tokens": 512},
    )  # fmt: skip
    mesh = make_mesh(job)
    loss, weight = make_eval_step(job, mesh)(init_state(job, mesh).params, random_batch(job))
    assert float(loss / weight) == pytest.approx(math.log(vocab), rel=0.02)


def test_layers_start_different_and_residual_projections_small():
    config = tiny_job(model={"hidden_dim": 64, "num_layers": 8}).effective.model
    blocks = init_params(config, jax.random.key(0))["blocks"]
    assert not np.allclose(blocks["mlp"]["up"][0], blocks["mlp"]["up"][1])
    # Sample deviations of tens of thousands of draws are within a few percent.
    assert np.std(blocks["attention"]["query"]) == pytest.approx(64**-0.5, rel=0.03)
    assert np.std(blocks["attention"]["out"]) == pytest.approx(32**-0.5 / 4, rel=0.03)
    assert np.std(blocks["mlp"]["down"]) == pytest.approx(64**-0.5 / 4, rel=0.03)


def test_the_past_does_not_see_the_future():
    job, params = build()
    random = np.random.default_rng(0)
    tokens = random.integers(0, 258, (1, 32))
    changed = tokens.copy()
    changed[0, 20] += 1
    index, ones = np.arange(32)[None], np.ones((1, 32), np.int32)
    before, after = (np.asarray(hidden_states(job, params, x, index, ones)) for x in (tokens, changed))
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    assert np.all(np.abs(before - after)[:, 20:].max(-1) > 0)


@pytest.mark.parametrize("kind", ["dense", "blockwise"])
def test_a_packed_document_reads_as_if_it_were_alone(kind):
    job, params = build()
    batch = random_batch(job, seed=3, sequences=2)
    packed = hidden_states(job, params, batch.inputs, batch.positions, batch.segments, attention=kind)
    second = batch.segments[1] == 2
    length = int(second.sum())
    alone = hidden_states(
        job, params, batch.inputs[1:, second], np.arange(length)[None], np.ones((1, length), np.int32), attention=kind
    )
    # The same numbers summed in groups of other sizes.
    np.testing.assert_allclose(packed[1, second], alone[0], rtol=0, atol=1e-5)


def test_dropout_keeps_the_mean_and_is_off_without_a_key():
    x = jnp.ones((100, 1000))
    y = np.asarray(dropout(x, 0.25, jax.random.key(0)))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    assert dropout(x, 0.25, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x
