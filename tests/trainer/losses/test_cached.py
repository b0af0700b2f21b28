"""Losses of a cached teacher: against the online loss where nothing is left out, and against whole logits elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from tests.trainer.losses.test_distillation import definition, example, measured
from trainer.losses import CachedGoal, Goal, Output, TopWords, cached_distillation, top_words


def kept_of(case, k, **options):
    def find(hidden, table, targets):
        return top_words(Output(hidden, table), targets, k, chunk_tokens=4, **options)

    return jax.jit(find)(case["teacher_hidden"], case["teacher_table"], case["targets"])


def cached(case, kept, T, goal, **options):
    """Total, parts and gradients of the cached loss."""

    def total(hidden, table):
        targets, weights = jnp.asarray(case["targets"]), jnp.asarray(case["weights"])
        return cached_distillation(Output(hidden, table), kept, targets, weights, T, goal, chunk_tokens=4, **options)

    both = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
    return both(jnp.asarray(case["hidden"]), jnp.asarray(case["table"]))


def same(one, other, rtol, atol):
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


KINDS = [("forward_kl", True), ("reverse_kl", False), ("jsd", True)]


@pytest.mark.parametrize(("divergence", "with_rest"), KINDS)
def test_who_keeps_every_word_has_the_online_loss(divergence, with_rest):
    case, goal = example(V=17), Goal(divergence, 0.7, 0.3)
    kept, options = kept_of(case, 17), {"softcap": 5.0, "z_loss": 0.01}
    online = measured(case, 2.0, goal, chunk_tokens=4, **options)
    found = cached(case, kept, 2.0, CachedGoal(goal, with_rest), **options)
    same(found, online, 2e-5, 1e-5)  # the same float32 sums, of terms up to 10, in another order


def from_whole_logits(case, k, T, goal, with_rest):
    """Total and gradients in plain JAX: all logits at once, sorted, and merged beyond the k first."""
    teacher = jax.nn.log_softmax(case["teacher_hidden"] @ case["teacher_table"].T)
    order = jnp.argsort(-teacher, axis=-1)

    def classes(logs):
        words = jnp.take_along_axis(logs, order, axis=-1)
        if with_rest and k < words.shape[-1]:
            rest = jax.nn.logsumexp(words[..., k:], axis=-1, keepdims=True)
            return jax.nn.log_softmax(jnp.concatenate([words[..., :k], rest], axis=-1) / T)
        return jax.nn.log_softmax(words[..., :k] / T)

    def total(hidden, table):
        own = jax.nn.log_softmax(hidden @ table.T)
        p, q = classes(teacher), classes(own)
        m = jnp.log(goal.jsd_beta * jnp.exp(p) + (1 - goal.jsd_beta) * jnp.exp(q))

        def kl(a, b):
            return jnp.sum(jnp.exp(a) * (a - b), axis=-1)

        found = {
            "forward_kl": kl(p, q),
            "reverse_kl": kl(q, p),
            "jsd": goal.jsd_beta * kl(p, m) + (1 - goal.jsd_beta) * kl(q, m),
        }[goal.divergence]
        ce = -jnp.take_along_axis(own, jnp.maximum(case["targets"], 0)[..., None], axis=-1)[..., 0]
        return jnp.sum(case["weights"] * (goal.alpha * T**2 * found + (1 - goal.alpha) * ce))

    return jax.value_and_grad(total, argnums=(0, 1))(case["hidden"], case["table"])


@pytest.mark.parametrize(("divergence", "with_rest"), KINDS)
def test_the_loss_on_kept_words_is_that_of_whole_logits(divergence, with_rest):
    goal, k = Goal(divergence, 0.6, 0.3), 5

    def ours(case, T):
        def total(hidden, table):
            targets, weights, follow = case["targets"], case["weights"], CachedGoal(goal, with_rest)
            return cached_distillation(
                Output(hidden, table), kept_of(case, k), targets, weights, T, follow, chunk_tokens=4
            )

        return jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(case["hidden"], case["table"])

    ours, theirs = jax.jit(ours), jax.jit(lambda case, T: from_whole_logits(case, k, T, goal, with_rest))

    @settings(max_examples=15)
    @given(size=st.floats(0.01, 2.0), T=st.floats(0.5, 4.0), seed=st.integers(0, 2**32 - 1))
    def compare(size, T, seed):
        case = {name: jnp.asarray(x) for name, x in example(V=19, size=size, seed=seed).items()}
        (total, _), gradients = ours(case, T)
        # float32 on both sides; gradients are sums that cancel, of terms up to 16 times 10.
        same((total, gradients), theirs(case, T), 1e-4, 5e-4)

    compare()


def test_what_is_kept_are_the_likeliest_words_and_what_others_leave():
    case = example(B=2, T=5, V=30, seed=3)
    logits = case["teacher_hidden"].astype(np.float64) @ case["teacher_table"].astype(np.float64).T
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    kept = kept_of(case, 4)
    order = np.argsort(-logs, axis=-1)[..., :4]
    np.testing.assert_array_equal(kept.ids, order)
    np.testing.assert_allclose(kept.log_probs, np.take_along_axis(logs, order, -1), rtol=1e-5, atol=1e-5)  # float32
    mass = np.exp(np.float64(kept.log_probs)).sum(-1) + np.exp(np.float64(kept.rest))
    np.testing.assert_allclose(mass, 1.0, rtol=1e-5)
    counted = case["weights"] > 0
    picked = np.take_along_axis(logs, np.maximum(case["targets"], 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.asarray(kept.target)[counted], picked[counted], rtol=1e-5, atol=1e-5)
    capped = 3 * np.tanh(logits / 3)
    expected = -np.sort(-(capped - np.log(np.exp(capped).sum(-1, keepdims=True))))[..., :4]
    np.testing.assert_allclose(kept_of(case, 4, softcap=3.0).log_probs, expected, rtol=1e-5, atol=1e-5)


def test_merging_words_never_adds_to_the_divergence():
    case, goal = example(V=30), Goal("forward_kl", 1.0)
    assert 0 < float(cached(case, kept_of(case, 8), 1.0, CachedGoal(goal))[0][0]) < definition(case, 1.0, goal)


def test_huge_logits_stay_finite():
    case = example(size=1000)
    result = cached(case, kept_of(case, 3), 2.0, CachedGoal(Goal("reverse_kl", 0.5)))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result))


def test_ranks_of_all_words_are_not_in_a_cache():
    case = example()
    with pytest.raises(ValueError, match="uld sorts the whole vocabulary"):
        cached(case, kept_of(case, 3), 2.0, CachedGoal(Goal("uld", 0.5)))


def test_a_split_vocabulary_changes_nothing():
    k = 20  # more than a device has words
    case = example(B=4, V=48)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(2, 4), ("data", "model"))
    tokens, rows = PartitionSpec("data"), PartitionSpec("model")
    find = jax.shard_map(
        lambda hidden, table, targets: top_words(Output(hidden, table), targets, k, chunk_tokens=4, vocab_axis="model"),
        mesh=mesh,
        in_specs=(tokens, rows, tokens),
        out_specs=tokens,
    )
    kept: TopWords = jax.jit(find)(case["teacher_hidden"], case["teacher_table"], case["targets"])
    alone = kept_of(case, k)
    np.testing.assert_array_equal(kept.ids, alone.ids)
    same(kept[1:], alone[1:], 1e-5, 1e-5)  # the same sums in another order

    goal = CachedGoal(Goal("forward_kl", 0.7))

    def total(hidden, table, kept, targets, weights):
        sums = cached_distillation(
            Output(hidden, table), kept, targets, weights, 2.0, goal, chunk_tokens=4, vocab_axis="model"
        )
        return jax.tree.map(lambda x: jax.lax.psum(x, "data"), sums)

    whole = jax.shard_map(
        total, mesh=mesh, in_specs=(tokens, rows, tokens, tokens, tokens), out_specs=PartitionSpec(), check_vma=True
    )
    rest = [jnp.asarray(case[name]) for name in ("targets", "weights")]
    both = jax.jit(jax.value_and_grad(lambda h, e: whole(h, e, alone, *rest), argnums=(0, 1), has_aux=True))
    result = both(jnp.asarray(case["hidden"]), jnp.asarray(case["table"]))
    same(result, cached(case, alone, 2.0, goal), 1e-4, 1e-5)  # likewise; a gradient's terms are up to 10
