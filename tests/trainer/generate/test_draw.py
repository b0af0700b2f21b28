"""Filters and draws against plain numpy, written from what transformers documents."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.generate.draw import Filters, draw, filtered, penalized
from vishwamai.contract.generation import Sampling

V = 12
FILTERED = jax.jit(filtered)
# Multiples of 1/4 differ by more than float32 rounds, and meet often enough to try ties.
logits_of = st.lists(st.integers(-24, 24), min_size=V, max_size=V).map(lambda x: np.array(x, np.float32) / 4)


def numpy_filtered(logits, temperature, top_k, top_p, min_p):
    """The ids that stay and their chances, in float64, loop by loop."""
    scores = logits.astype(np.float64) / temperature
    if top_k < V:
        scores[scores < np.sort(scores)[-top_k]] = -np.inf
    if top_p < 1:
        chances = np.exp(scores - scores.max())
        chances /= chances.sum()
        order = np.argsort(-scores, kind="stable")
        total, last = 0.0, order[0]
        for one in order:
            if total >= top_p - 1e-6:
                break
            total, last = total + chances[one], one
        scores[scores < scores[last]] = -np.inf
    chances = np.exp(scores - scores.max())
    scores[chances < min_p * (1 - 1e-6)] = -np.inf
    chances = np.where(np.isfinite(scores), chances, 0)
    return chances / chances.sum()


@given(
    logits_of,
    st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    st.integers(1, V + 3),
    st.integers(1, 199).map(lambda x: x / 200 + 1 / 997),
    st.integers(0, 99).map(lambda x: x / 100 + 1 / 991),
)
@example(np.zeros(V, np.float32), 1.0, 1, 0.5, 0.1)
def test_filters_keep_what_numpy_keeps(logits, temperature, top_k, top_p, min_p):
    filters = Filters(temperature, None, top_k, top_p, min_p)
    kept = np.asarray(FILTERED(jnp.asarray(logits), filters), np.float64)
    wanted = numpy_filtered(logits, temperature, min(top_k, V), top_p, min_p)
    # float32 sums of a dozen chances round by 1e-6, and a set may end within that of top_p: then both sets are right.
    sure = numpy_filtered(logits, temperature, min(top_k, V), max(top_p - 4e-6, 1e-9), min_p * (1 + 4e-6))
    wide = numpy_filtered(logits, temperature, min(top_k, V), min(top_p + 4e-6, 1.0), min_p * (1 - 4e-6))
    stay = np.isfinite(kept)
    assert stay[sure > 0].all()
    assert not stay[wide == 0].any()
    if np.array_equal(sure > 0, wide > 0):
        chances = np.where(stay, np.exp(kept - kept.max()), 0)
        np.testing.assert_allclose(chances / chances.sum(), wanted, rtol=1e-5)


@given(logits_of, st.lists(st.booleans(), min_size=V, max_size=V), st.sampled_from([0.5, 1.3, 2.0]))
def test_repetition_penalty_is_that_of_transformers(logits, seen, penalty):
    wanted = [x if not s else x / penalty if x > 0 else x * penalty for x, s in zip(logits, seen, strict=True)]
    np.testing.assert_allclose(penalized(jnp.asarray(logits), jnp.array(seen), penalty), wanted, rtol=1e-6)


def test_draws_have_the_chances_that_the_filters_leave():
    logits = np.array([[2.0, 1.0, 0.0, -1.0, -9.0, 1.5]], np.float32)
    filters = Filters(1.0, None, 4, None, None)
    count = 4000
    drawn = draw(jnp.repeat(logits, count, 0), filters, jnp.uint32(3), jnp.zeros(count, jnp.int32))
    wanted = np.exp(logits[0]) * [1, 1, 1, 0, 0, 1]
    # Frequencies of 4000 draws differ from the chances by 0.008 at one standard deviation, at most.
    np.testing.assert_allclose(np.bincount(drawn, minlength=6) / count, wanted / wanted.sum(), atol=0.03)


def test_a_draw_follows_from_seed_row_and_number_alone():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 50)), jnp.float32)
    filters = Filters(1.0, None, None, None, None)
    several = draw(logits, filters, jnp.uint32(7), jnp.array([0, 1, 2, 3]))
    np.testing.assert_array_equal(draw(logits[:2], filters, jnp.uint32(7), jnp.array([0, 1])), several[:2])
    others = [draw(logits, filters, jnp.uint32(seed), jnp.array([0, 1, 2, 3])) for seed in range(8, 12)]
    assert any((other != several).any() for other in others)


def test_a_greedy_sampling_filters_nothing():
    assert Filters.of(Sampling(temperature=0, top_k=3, top_p=0.5, min_p=0.1)) == Filters(None, None, None, None, None)
    assert Filters.of(Sampling(temperature=1, top_p=1.0, min_p=0.0)) == Filters(1.0, None, None, None, None)
