"""The loss beside a teacher of another vocabulary: against its definition in numpy, and its slope."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from trainer.losses import Goal, Output, distillation
from trainer.losses.chunks import Form
from trainer.losses.cross_tokenizer import CrossGoal, cross_tokenizer

DIVERGENCES: tuple[Literal["forward_kl", "reverse_kl", "jsd"], ...] = ("forward_kl", "reverse_kl", "jsd")


def example(B=2, T=5, H=4, V=12, teacher_H=6, teacher_V=15, count=6, alone=True, seed=0, size=1.0) -> dict[str, Any]:
    """Tokens of random classes; each class has some in both vocabularies, and if `alone` there are some without.

    With them, the last row of the teacher's table is no token: with those without a class in D, and in no rank.
    """
    random = np.random.default_rng(seed)
    weights = random.random((B, T)) * (random.random((B, T)) < 0.8)

    def classes(words):
        free = random.integers(0, count + alone, words - count - alone)
        return np.int32(random.permutation(np.concatenate([np.arange(count + alone), free])))

    return {
        "hidden": np.float32(size * random.standard_normal((B, T, H))),
        "table": np.float32(random.standard_normal((V, H))),
        "teacher_hidden": np.float32(size * random.standard_normal((B, T, teacher_H))),
        "teacher_table": np.float32(random.standard_normal((teacher_V, teacher_H))),
        "targets": np.int32(np.where(weights > 0, random.integers(0, V, (B, T)), -1)),
        "weights": np.float32(weights),
        "paired": random.random((B, T)) < 0.6,
        "classes": (
            classes(V),
            np.append(classes(teacher_V - 1), np.int32(count + 1)) if alone else classes(teacher_V),
        ),
    }


def aim_of(case, goal, count=6):
    own, other = (int(np.sum(classes == count)) for classes in case["classes"])
    return CrossGoal(goal, count, (own, other))


def form_of(chunk_tokens=4, vocab_axis=None):
    return Form(chunk_tokens, vocab_axis, 0.01, 0.0, None, False, "max")


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def definition(case, T, aim):
    """The total in float64, from whole logits."""
    wide = {name: np.asarray(x, np.float64) for name, x in case.items() if name not in ("classes", "paired")}
    logits, taught = wide["hidden"] @ wide["table"].T, wide["teacher_hidden"] @ wide["teacher_table"].T
    q, p = softmax(logits / T), softmax(taught / T)
    Q, P = (
        np.stack([x[..., np.minimum(classes, aim.count) == k].sum(-1) for k in range(aim.compared)], -1)
        for x, classes in zip((q, p), case["classes"], strict=True)
    )
    Q, P = Q / Q.sum(-1, keepdims=True), P / P.sum(-1, keepdims=True)
    b = aim.goal.jsd_beta
    M = b * P + (1 - b) * Q

    def kl(a, c):
        return (a * np.log(a / c)).sum(-1)

    found = {"forward_kl": kl(P, Q), "reverse_kl": kl(Q, P), "jsd": b * kl(P, M) + (1 - b) * kl(Q, M)}
    rest = [-np.sort(-x[..., classes == aim.count], -1) for x, classes in zip((q, p), case["classes"], strict=True)]
    size = max(x.shape[-1] for x in rest)
    one, other = (np.pad(x, ((0, 0), (0, 0), (0, size - x.shape[-1]))) for x in rest)
    followed = aim.goal.alpha * wide["weights"] * case["paired"]
    log_sum = np.log(np.exp(logits).sum(-1))
    picked = np.take_along_axis(logits, np.maximum(case["targets"], 0)[..., None], -1)[..., 0]
    ce = log_sum - picked + 0.01 * log_sum**2
    divergence = T**2 * found[aim.goal.divergence] + np.abs(one - other).sum(-1)
    return np.sum(followed * divergence + (wide["weights"] - followed) * ce)


def measured(case, T, aim, form):
    rest = {name: jnp.asarray(x) for name, x in case.items() if name != "classes"}
    classes = tuple(map(jnp.asarray, case["classes"]))

    def total(hidden, table):
        student, teacher = Output(hidden, table), Output(rest["teacher_hidden"], rest["teacher_table"])
        places = rest["paired"], rest["targets"], rest["weights"]
        return cross_tokenizer(student, teacher, *places, T, (classes[0], classes[1]), aim, form)

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(rest["hidden"], rest["table"])


@settings(max_examples=4)
@given(
    divergence=st.sampled_from(DIVERGENCES),
    alpha=st.floats(0.0, 1.0),
    temperature=st.floats(0.5, 4.0),
    alone=st.booleans(),
    chunk_tokens=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_definition_and_its_slope(divergence, alpha, temperature, alone, chunk_tokens, seed):
    case = example(alone=alone, seed=seed)
    aim = aim_of(case, Goal(divergence, alpha, 0.3))
    (total, _), gradients = measured(case, temperature, aim, form_of(chunk_tokens))
    # float32 sums of a few hundred terms of size about 1 to 10.
    np.testing.assert_allclose(total, definition(case, temperature, aim), rtol=2e-5, atol=2e-5)
    random = np.random.default_rng(seed)
    for name, gradient in zip(("hidden", "table"), gradients, strict=True):
        way = random.standard_normal(case[name].shape)
        # Sorting has kinks: a small step, which float64 allows, rarely crosses one.
        step = 1e-7
        up, down = (
            definition(case | {name: case[name].astype(np.float64) + sign * step * way}, temperature, aim)
            for sign in (1, -1)
        )
        slope = (up - down) / (2 * step)
        size = np.linalg.norm(gradient) * np.linalg.norm(way) + 1e-3
        # float32 gradients, and differences of numbers up to 1e2 in float64 over 2e-7.
        assert abs(np.sum(np.asarray(gradient, np.float64) * way) - slope) < 1e-4 * size + 1e-5


def test_with_one_vocabulary_it_is_the_loss_word_by_word():
    case = example(V=12, teacher_V=12, count=12, alone=False)
    case |= {"classes": (np.arange(12, dtype=np.int32),) * 2, "paired": np.ones((2, 5), bool)}
    goal = Goal("jsd", 0.7, 0.3)
    ours = measured(case, 2.0, CrossGoal(goal, 12, (0, 0)), form_of())
    arrays = {name: jnp.asarray(x) for name, x in case.items() if name != "classes"}

    def plain(hidden, table):
        student, teacher = Output(hidden, table), Output(arrays["teacher_hidden"], arrays["teacher_table"])
        places = arrays["targets"], arrays["weights"]
        return distillation(student, teacher, *places, 2.0, goal, chunk_tokens=4, z_loss=0.01)

    theirs = jax.jit(jax.value_and_grad(plain, argnums=(0, 1), has_aux=True))(arrays["hidden"], arrays["table"])
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)  # float32, summed in another order


def test_where_nothing_is_paired_the_target_alone_teaches():
    case = example() | {"paired": np.zeros((2, 5), bool)}
    followed = measured(case, 2.0, aim_of(case, Goal("forward_kl", 0.9)), form_of())
    alone = measured(case, 2.0, aim_of(case, Goal("forward_kl", 0.0)), form_of())
    for one, other in zip(jax.tree.leaves(followed), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(one, other)


def test_huge_logits_stay_finite():
    case = example(size=1000)
    found = measured(case, 2.0, aim_of(case, Goal("reverse_kl", 0.5)), form_of())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_a_split_vocabulary_changes_nothing():
    own_axis, teacher_axis = "model", None  # both are split in test_other_tokens.py
    case = example(B=2, V=12, teacher_V=16)
    aim = aim_of(case, Goal("forward_kl", 0.7))
    split = CrossGoal(Goal("forward_kl", 0.7, teacher_vocab_axis=teacher_axis), aim.count, aim.alone)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    rest = {name: jnp.asarray(x) for name, x in case.items() if name not in ("classes", "hidden", "table")}
    classes = tuple(map(jnp.asarray, case["classes"]))

    def total(hidden, table, rest):
        student, teacher = Output(hidden, table), Output(rest["teacher_hidden"], rest["teacher_table"])
        places = rest["paired"], rest["targets"], rest["weights"]
        found = cross_tokenizer(student, teacher, *places, 2.0, (classes[0], classes[1]), split, form_of(4, own_axis))
        return jax.tree.map(lambda x: jax.lax.psum(x, "data"), found)

    tokens = PartitionSpec("data")
    specs = dict.fromkeys(rest, tokens) | {"teacher_table": PartitionSpec(teacher_axis)}
    whole = jax.shard_map(
        total, mesh=mesh, in_specs=(tokens, PartitionSpec(own_axis), specs), out_specs=PartitionSpec(), check_vma=True
    )
    both = jax.jit(jax.value_and_grad(lambda h, e: whole(h, e, rest), argnums=(0, 1), has_aux=True))
    result = both(jnp.asarray(case["hidden"]), jnp.asarray(case["table"]))
    expected = measured(case, 2.0, aim, form_of())
    # The same sums in another order; a gradient's terms are up to 10.
    for ours, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
