import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from trainer.losses import Goal, Output, cross_entropy, distillation

GOLDENS = Path(__file__).parents[2] / "goldens" / "losses.npz"
DIVERGENCES = ["forward_kl", "reverse_kl", "jsd"]


def goldens() -> dict[str, np.ndarray]:
    with np.load(GOLDENS) as archive:
        return dict(archive)


def on_logits(student, teacher, labels, temperature, goal, chunk_tokens=4):
    """Mean total, mean parts and d total / d student logits: hidden states that are logits, under a table that is 1."""
    counted = np.float32(labels != -100)
    teacher_out = Output(jnp.asarray(teacher), jnp.eye(teacher.shape[-1]))

    def mean(logits):
        output = Output(logits, jnp.eye(student.shape[-1]))
        total, parts = distillation(
            output, teacher_out, jnp.asarray(labels), jnp.asarray(counted), temperature, goal, chunk_tokens=chunk_tokens
        )
        return total / counted.sum(), jax.tree.map(lambda x: x / counted.sum(), parts)

    return jax.jit(jax.value_and_grad(mean, has_aux=True))(jnp.asarray(student))


# rtol 1e-5: what the goldens' README allows for float32; gradients are sums that cancel, of terms up to 1 / 9.
@pytest.mark.parametrize(("divergence", "key"), [("forward_kl", "fkl"), ("reverse_kl", "rkl"), ("jsd", "jsd")])
def test_values_are_those_of_trl(divergence, key):
    gold = goldens()
    T, alpha, beta = (float(gold[name]) for name in ("temperature", "alpha", "beta"))
    goal = Goal(divergence, alpha, jsd_beta=beta)
    (total, parts), _ = on_logits(gold["student_logits"], gold["teacher_logits"], gold["labels"], T, goal)
    np.testing.assert_allclose(total, gold[f"total_{key}_t2"], rtol=1e-5)
    np.testing.assert_allclose(parts.kl, gold[f"{key}_t2"], rtol=1e-5)
    np.testing.assert_allclose(parts.ce, gold["ce"], rtol=1e-5)


def test_the_gradient_of_the_whole_is_trls():
    gold = goldens()
    goal = Goal("forward_kl", float(gold["alpha"]))
    _, gradient = on_logits(gold["student_logits"], gold["teacher_logits"], gold["labels"], 2.0, goal)
    np.testing.assert_allclose(gradient, gold["grad_total_fkl_t2"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("divergence", "key"), [("reverse_kl", "rkl"), ("jsd", "jsd")])
def test_gradients_of_divergences_alone_are_trls(divergence, key):
    gold = goldens()
    goal = Goal(divergence, 1.0, jsd_beta=float(gold["beta"]))
    _, gradient = on_logits(gold["student_logits"], gold["teacher_logits"], gold["labels"], 2.0, goal)
    np.testing.assert_allclose(gradient, 4.0 * gold[f"grad_{key}"], rtol=1e-4, atol=1e-7)


def test_uld_of_two_vocabularies():
    gold = goldens()
    inputs = gold["student_logits"], gold["teacher_logits_v600"], gold["labels"]
    (_, parts), gradient = on_logits(*inputs, 2.0, Goal("uld", 1.0))
    np.testing.assert_allclose(parts.kl, gold["uld_token_mean"], rtol=1e-5)
    np.testing.assert_allclose(on_logits(*inputs, 1.0, Goal("uld", 1.0))[0][1].kl, gold["uld_token_mean_T1"], rtol=1e-5)
    # The golden's gradient is of a mean of sequences' means, 5 and 4 tokens of 9.
    shares = np.array([(1 / 9) / (1 / 10), (1 / 9) / (1 / 8)])[:, None, None]
    # Ranks of probabilities that differ by less than float32 tells may swap: signs of tiny terms.
    np.testing.assert_allclose(gradient, shares * gold["grad_uld"], rtol=1e-4, atol=1e-6)


def example(B=2, T=7, H=6, V=40, teacher_H=10, teacher_V=None, seed=0, size=1.0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    counted = random.random((B, T)) < 0.8
    targets = np.where(counted, random.integers(0, V, (B, T)), -1)
    return {
        "hidden": np.float32(size * random.standard_normal((B, T, H))),
        "table": np.float32(random.standard_normal((V, H))),
        "teacher_hidden": np.float32(size * random.standard_normal((B, T, teacher_H))),
        "teacher_table": np.float32(random.standard_normal((teacher_V or V, teacher_H))),
        "targets": np.int32(targets),
        "weights": np.float32(random.random((B, T)) * counted),
    }


def definition(case, T, goal, softcap=None):
    """The total in float64, from whole logits."""

    def log_softmax(x):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    def capped(x, cap):
        return x if cap is None else cap * np.tanh(x / cap)

    wide = {name: np.asarray(x, np.float64) for name, x in case.items()}
    logits = capped(wide["hidden"] @ wide["table"].T, softcap)
    taught = capped(wide["teacher_hidden"] @ wide["teacher_table"].T, goal.teacher_softcap)
    q, p = log_softmax(logits / T), log_softmax(taught / T)

    def kl(a, b):
        return (np.exp(a) * (a - b)).sum(-1)

    if goal.divergence == "uld":
        size = max(q.shape[-1], p.shape[-1])
        one, other = (np.pad(-np.sort(-np.exp(x)), ((0, 0), (0, 0), (0, size - x.shape[-1]))) for x in (q, p))
        found = np.abs(one - other).sum(-1)
    else:
        m = np.log(goal.jsd_beta * np.exp(p) + (1 - goal.jsd_beta) * np.exp(q))
        found = (
            T**2
            * {
                "forward_kl": kl(p, q),
                "reverse_kl": kl(q, p),
                "jsd": goal.jsd_beta * kl(p, m) + (1 - goal.jsd_beta) * kl(q, m),
            }[goal.divergence]
        )
    picked = np.take_along_axis(log_softmax(logits), np.maximum(case["targets"], 0)[..., None], -1)[..., 0]
    return np.sum(wide["weights"] * (goal.alpha * found - (1 - goal.alpha) * picked))


def measured(case, T, goal, **options):
    arrays = {name: jnp.asarray(x) for name, x in case.items()}

    def total(hidden, table):
        student, teacher = Output(hidden, table), Output(arrays["teacher_hidden"], arrays["teacher_table"])
        return distillation(student, teacher, arrays["targets"], arrays["weights"], T, goal, **options)

    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    return both(arrays["hidden"], arrays["table"])


@settings(max_examples=8)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(2, 30)),
    goal=st.builds(
        Goal,
        st.sampled_from([*DIVERGENCES, "uld"]),
        st.floats(0.0, 1.0),
        st.floats(0.05, 0.95),
        st.sampled_from([None, 3.0]),
    ),
    temperature=st.floats(0.5, 4.0),
    chunk_tokens=st.integers(1, 30),
    softcap=st.sampled_from([None, 2.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_sizes_are_the_definition_and_its_slope(sizes, goal, temperature, chunk_tokens, softcap, seed):
    B, T, H, V = sizes
    teacher_V = V + 3 if goal.divergence == "uld" else None
    case = example(B, T, H, V, teacher_V=teacher_V, seed=seed)
    (total, _), gradients = measured(case, temperature, goal, chunk_tokens=chunk_tokens, softcap=softcap)
    # float32 sums of a few hundred terms of size about 1 to 10.
    np.testing.assert_allclose(total, definition(case, temperature, goal, softcap), rtol=2e-5, atol=2e-5)
    random = np.random.default_rng(seed)
    for name, gradient in zip(("hidden", "table"), gradients, strict=True):
        way = random.standard_normal(case[name].shape)
        # uld has kinks where sorted probabilities meet: a small step, which float64 allows, rarely crosses one.
        step = 1e-7
        up, down = (
            definition(case | {name: case[name].astype(np.float64) + sign * step * way}, temperature, goal, softcap)
            for sign in (1, -1)
        )
        slope = (up - down) / (2 * step)
        size = np.linalg.norm(gradient) * np.linalg.norm(way) + 1e-3
        # float32 gradients, and differences of numbers up to 1e2 in float64 over 2e-7.
        assert abs(np.sum(np.asarray(gradient, np.float64) * way) - slope) < 1e-4 * size + 1e-5


def test_a_teacher_without_weight_is_cross_entropy():
    case = example()
    (total, parts), gradients = measured(case, 2.0, Goal("forward_kl", 0.0), chunk_tokens=5, z_loss=0.01)
    arguments = [jnp.asarray(case[name]) for name in ("hidden", "table", "targets", "weights")]
    plain = jax.value_and_grad(lambda *x: cross_entropy(*x, chunk_tokens=5, z_loss=0.01)[0], argnums=(0, 1))
    expected, exact = plain(*arguments)
    np.testing.assert_allclose((total, parts.ce), (expected, expected), rtol=1e-6)
    for ours, theirs in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)  # the same sums, fused otherwise


@pytest.mark.parametrize("divergence", [*DIVERGENCES, "uld"])
def test_who_is_its_own_teacher_has_nothing_to_learn(divergence):
    case = example(teacher_H=6)
    case |= {"teacher_hidden": case["hidden"], "teacher_table": case["table"]}
    (_, parts), gradients = measured(case, 2.0, Goal(divergence, 1.0), chunk_tokens=4)
    np.testing.assert_allclose(parts.kl, 0.0, atol=1e-6)
    np.testing.assert_allclose(parts.agreement, case["weights"].sum(), rtol=1e-6)
    np.testing.assert_allclose(parts.teacher, parts.ce, rtol=1e-6)
    if divergence != "uld":  # whose slope at 0 is that of |x|
        assert max(np.abs(gradient).max() for gradient in gradients) < 1e-6


@pytest.mark.parametrize("divergence", [*DIVERGENCES, "uld"])
def test_huge_logits_stay_finite(divergence):
    case = example(size=1000)
    (total, _), gradients = measured(case, 2.0, Goal(divergence, 0.5), chunk_tokens=4)
    assert np.isfinite(total)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_two_vocabularies_are_compared_by_uld_alone():
    with pytest.raises(ValueError, match=r"word by word.*\(40, 44\)"):
        measured(example(teacher_V=44), 2.0, Goal("forward_kl", 0.5), chunk_tokens=4)


def split(case, goal, data, model, teacher_split, **options):
    """Value and gradients with tables' rows split over "model" and tokens over "data"."""
    mesh = Mesh(np.array(jax.devices()[: data * model]).reshape(data, model), ("data", "model"))
    tokens, rows = PartitionSpec("data"), PartitionSpec("model")

    def total(hidden, table, teacher_hidden, teacher_table, targets, weights):
        student, teacher = Output(hidden, table), Output(teacher_hidden, teacher_table)
        sums = distillation(student, teacher, targets, weights, 2.0, goal, **options)
        return jax.tree.map(lambda x: jax.lax.psum(x, "data"), sums)

    student_rows = rows if options.get("vocab_axis") else PartitionSpec()
    specs = (tokens, student_rows, tokens, rows if teacher_split else PartitionSpec(), tokens, tokens)
    whole = jax.shard_map(total, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=True)
    rest = [jnp.asarray(case[name]) for name in ("teacher_hidden", "teacher_table", "targets", "weights")]
    both = jax.jit(jax.value_and_grad(lambda h, e: whole(h, e, *rest), argnums=(0, 1), has_aux=True))
    return both, (jnp.asarray(case["hidden"]), jnp.asarray(case["table"]))


@pytest.mark.parametrize(
    ("divergence", "own_axis", "teacher_V"),
    [("forward_kl", "model", 48), ("jsd", "model", 48), ("uld", "model", 52), ("uld", None, 52)],
)
def test_a_split_vocabulary_changes_nothing(divergence, own_axis, teacher_V):
    case = example(B=4, V=48, teacher_V=teacher_V)
    goal = Goal(divergence, 0.7, teacher_vocab_axis="model")
    both, inputs = split(case, goal, 2, 4, True, chunk_tokens=8, vocab_axis=own_axis)
    result, expected = both(*inputs), measured(case, 2.0, Goal(divergence, 0.7), chunk_tokens=8)
    # The same sums in another order; a gradient's terms are up to 10.
    for ours, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("devices", [1, 4])
def test_no_array_of_logits_is_larger_than_a_chunk(devices):
    case = example(B=4, T=64, H=8, V=2048, teacher_H=8)
    goal = Goal("forward_kl", 0.5, teacher_vocab_axis="model")
    both, inputs = split(case, goal, 1, devices, True, chunk_tokens=32, vocab_axis="model")
    text = both.lower(*inputs).compile().as_text()
    sizes = re.findall(r"(?:f32|bf16|s32|pred)\[([\d,]+)\]", text)
    assert max(int(np.prod([int(n) for n in size.split(",")])) for size in sizes) == 32 * 2048 // devices
    assert "all-gather" not in text
