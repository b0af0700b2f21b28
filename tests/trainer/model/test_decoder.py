import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.jobs import tiny_job
from trainer.forward import make_hidden_states
from trainer.mesh import make_mesh
from trainer.model import describe, init_params
from trainer.model.decoder import LayerGroup, layer_groups
from trainer.step import init_state, make_eval_step
from vishwamai.contract.config.model import LayerKind

PLAIN = {"dropout_rate": 0.0}
VARIANTS = {
    "guide's": {},
    "untied, grouped, swiglu": {"tie_embeddings": False, "num_kv_heads": 2, "activation": "swiglu"},
    "one kv head, geglu": {"num_kv_heads": 1, "activation": "geglu"},
    "erf gelu, heads wider than hidden": {"activation": "gelu_exact", "head_dim": 16, "rope_theta": 500.0},
    "windows by turns, caps, scales": {
        "num_layers": 5,
        "sliding_window": 6,
        "layer_pattern": ["sliding", "full"],
        "attention_softcap": 2.0,
        "logit_softcap": 3.0,
        "attention_scale": 0.5,
        "embedding_scale": True,
    },
    "every norm, biases, two rotations": {
        "num_layers": 3,
        "norm_offset": True,
        "post_norms": True,
        "qk_norm": True,
        "qkv_bias": True,
        "sliding_window": 5,
        "layer_pattern": ["full", "sliding", "sliding"],
        "rope_local_theta": 50.0,
    },
}


def build(**model):
    job = tiny_job(model=PLAIN | model)
    params = init_params(job.effective.model, jax.random.key(1))
    return job, params


def states_and_logits(job, params, inputs, segments):
    """Hidden states [L + 1, B, T, H] and logits [B, T, V]."""
    return make_hidden_states(job, make_mesh(job))(params, jnp.asarray(inputs), jnp.asarray(segments))


def act(x, activation):
    """The feed-forward's activation."""
    if activation == "swiglu":
        return x / (1 + np.exp(-x))
    if activation == "gelu_exact":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def reference_logits(config, params, batch):
    """The whole decoder in numpy float64, one window at a time."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, module):
        scale = module["scale"] + (1.0 if config.norm_offset else 0.0)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon) * scale

    def post(x, w, name):
        return norm(x, w[name]) if name in w else x

    def cap(x, limit):
        return x if limit is None else limit * np.tanh(x / limit)

    def turn(x, positions, theta):  # [T, n, D]: a plane is a complex number
        half = x.shape[-1] // 2
        angle = positions[:, None] * theta ** (-np.arange(half) / half)
        plane = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None]
        return np.concatenate([plane.real, plane.imag], -1)

    def heads(h, w, name, head_norm=None):
        y = h @ w[name] + w.get(f"{name}_bias", 0.0)
        y = y.reshape(len(h), -1, config.head_dim)
        return norm(y, w[head_norm]) if head_norm in w else y

    def attention(h, w, kind, see):
        theta = config.rope_local_theta if kind == "sliding" and config.rope_local_theta else config.rope_theta
        q, k = (turn(heads(h, w, n, f"{n}_norm"), np.arange(len(h)), theta) for n in ("query", "key"))
        k, v = (np.repeat(y, config.num_heads // config.kv_heads, axis=1) for y in (k, heads(h, w, "value")))
        scores = cap(np.einsum("tnd,snd->nts", q, k) * config.score_scale, config.attention_softcap)
        if kind == "sliding":
            see = see & (np.arange(len(h))[:, None] - np.arange(len(h)) < config.sliding_window)
        e = np.where(see, np.exp(scores), 0.0)
        mixed = np.einsum("nts,snd->tnd", e / np.maximum(e.sum(-1, keepdims=True), 1e-300), v)
        return mixed.reshape(len(h), -1) @ w["out"]

    def window(tokens, segments):
        x = p["embedding"][tokens] * (np.sqrt(config.hidden_dim) if config.embedding_scale else 1.0)
        T = len(tokens)
        see = np.tril(np.ones((T, T), bool)) & (segments[:, None] == segments) & (segments > 0)
        for i, kind in enumerate(config.layer_kinds):
            w = jax.tree.map(lambda leaf, i=i: leaf[i], p["blocks"])
            branch = attention(norm(x, w["attention_norm"]), w["attention"], kind, see)
            x = x + post(branch, w, "attention_post_norm")
            h = norm(x, w["mlp_norm"])
            up = h @ w["mlp"]["up"]
            gate = h @ w["mlp"]["gate"] if "gate" in w["mlp"] else up
            inner = act(gate, config.activation) * (up if "gate" in w["mlp"] else 1.0)
            x = x + post(inner @ w["mlp"]["down"], w, "mlp_post_norm")
        return cap(norm(x, p["norm"]) @ p.get("head", p["embedding"]).T, config.logit_softcap)

    return np.stack([window(*row) for row in zip(batch.inputs, batch.segments, strict=True)])


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_forward_pass_is_that_of_the_definition(model):
    job, params = build(**model)
    # Scales other than 1, biases other than 0, and tables larger than at the start, so that each of them shows.
    params = jax.tree.map(lambda x: x * 1.5 + 0.01, params)
    batch = random_batch(job, sequences=2)
    _, logits = states_and_logits(job, params, batch.inputs, batch.segments)
    expected = reference_logits(job.effective.model, params, batch)
    assert np.abs(expected).max() > 1.0
    # float32 rounding through a few layers; any wrong detail moves logits by more than 1e-3.
    np.testing.assert_allclose(logits, expected, rtol=0, atol=5e-5)


def test_unrolled_layers_compute_the_same():
    changes = VARIANTS["windows by turns, caps, scales"]
    job, params = build(**changes)
    batch = random_batch(job, sequences=2)
    scanned = states_and_logits(job, params, batch.inputs, batch.segments)
    unrolled_job = tiny_job(model=PLAIN | changes, execution={"scan_layers": False})
    unrolled = states_and_logits(unrolled_job, params, batch.inputs, batch.segments)
    for one, other in zip(scanned, unrolled, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)  # XLA fuses the two differently


F: LayerKind = "full"
S: LayerKind = "sliding"


@pytest.mark.parametrize(
    ("kinds", "groups"),
    [
        ((F,) * 24, [LayerGroup(0, (F,), 24)]),
        ((S, F) * 3, [LayerGroup(0, (S, F), 3)]),
        ((S, F, S, F, S), [LayerGroup(0, (S, F), 2), LayerGroup(4, (S,), 1)]),
        ((*(S,) * 5, F) * 4 + (S, S), [LayerGroup(0, (*(S,) * 5, F), 4), *(LayerGroup(i, (S,), 1) for i in (24, 25))]),
        ((F,) * 20 + (S,) * 8, [LayerGroup(0, (F,), 20), LayerGroup(20, (S,), 8)]),
        ((F,), [LayerGroup(0, (F,), 1)]),
    ],
    ids=["one kind", "by turns", "and one more", "gemma 3", "two runs", "one layer"],
)
def test_layers_are_visited_in_order_with_few_of_them_compiled(kinds, groups):
    assert layer_groups(kinds, scan=True) == groups
    visited = [kind for group in groups for kind in group.kinds * group.turns]
    assert tuple(visited) == kinds
    assert layer_groups(kinds, scan=False) == [LayerGroup(i, (kind,), 1) for i, kind in enumerate(kinds)]


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
    model = {"tie_embeddings": False, "activation": "swiglu", "qkv_bias": True}
    matrices = describe(tiny_job(model=model).effective.model).matrices()
    assert matrices == {
        "embedding": True,
        "head": True,
        "norm": {"scale": False},
        "blocks": {
            "attention": {"query": True, "key": True, "value": True, "out": True}
            | {"query_bias": False, "key_bias": False, "value_bias": False},
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
    ones = np.ones((1, 32), np.int32)
    before, after = (np.asarray(states_and_logits(job, params, x, ones)[1]) for x in (tokens, changed))
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    assert np.all(np.abs(before - after)[:, 20:].max(-1) > 0)


@pytest.mark.parametrize("kind", ["dense", "blockwise"])
def test_a_packed_document_reads_as_if_it_were_alone(kind):
    _, params = build()
    job = tiny_job(model=PLAIN, execution={"attention": kind})
    batch = random_batch(job, seed=3, sequences=2)
    _, packed = states_and_logits(job, params, batch.inputs, batch.segments)
    second = batch.segments[1] == 2
    length = int(second.sum())
    _, alone = states_and_logits(job, params, batch.inputs[1:, second], np.ones((1, length), np.int32))
    # The same numbers summed in groups of other sizes, and rotated from another start: angles of up to 32 radians.
    np.testing.assert_allclose(packed[1, second], alone[0], rtol=0, atol=5e-5)
