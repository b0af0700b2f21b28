import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from tests.trainer.attention.reference import reference, seen
from trainer.attention.blockwise import blockwise_attention
from trainer.attention.cuts import cut_segments, key_blocks_seen
from trainer.attention.dense import dense_attention
from trainer.attention.pattern import Pattern
from trainer.hashing import keep_mask

KEY = jnp.asarray([7, 11], jnp.uint32)
KINDS = {
    "dense": lambda *inputs, pattern, block: dense_attention(*(*inputs, pattern)),
    "blockwise": lambda *inputs, pattern, block: blockwise_attention(*inputs, pattern, block),
}
PLAIN = Pattern(heads=4, kv_heads=4, head_dim=8, scale=8**-0.5)
CASES = {  # pattern, B, T, S, offset, block
    "block divides": (PLAIN, 2, 32, 32, 0, 8),
    "ragged last block": (dataclasses.replace(PLAIN, kv_heads=2, head_dim=6), 2, 21, 21, 0, 8),
    "block longer than the sequence": (Pattern(3, 1, 4, 0.5), 1, 7, 7, 0, 64),
    "one token": (dataclasses.replace(PLAIN, kv_heads=1), 2, 1, 1, 0, 8),
    "prime length, block of one": (dataclasses.replace(PLAIN, kv_heads=2), 1, 13, 13, 0, 1),
    "window": (dataclasses.replace(PLAIN, window=5), 2, 29, 29, 0, 4),
    "window of one": (dataclasses.replace(PLAIN, window=1), 1, 10, 10, 0, 4),
    "soft-cap": (dataclasses.replace(PLAIN, softcap=1.5, scale=1.0), 2, 19, 19, 0, 8),
    "dropout": (dataclasses.replace(PLAIN, kv_heads=2, dropout_rate=0.3), 2, 19, 19, 0, 8),
    "second half of the queries": (dataclasses.replace(PLAIN, kv_heads=2), 2, 11, 22, 11, 4),
    "everything": (Pattern(6, 2, 4, 0.7, window=9, softcap=2.0, dropout_rate=0.2), 2, 9, 27, 17, 5),
}


def example(pattern, B, T, S, offset, seed=0):
    random = np.random.default_rng(seed)
    sizes = ((T, pattern.heads), (S, pattern.kv_heads), (S, pattern.kv_heads), (T, pattern.heads))
    q, k, v, d_out = (random.standard_normal((B, length, n * pattern.head_dim)) for length, n in sizes)
    place = np.arange(S)
    segments = np.stack([np.where(place < S // 3, 1, np.where(place < S - S // 5, 2, 0))] * B).astype(np.int32)
    segments[0] = 1  # one row without any boundary
    return (q, k, v, segments[:, offset : offset + T], segments), d_out


def kept_entries(pattern, B, T, S, offset):
    if pattern.dropout_rate == 0:
        return None
    head = (5 + np.arange(B))[:, None] * pattern.heads + np.arange(pattern.heads)
    places = (head[:, :, None, None], (offset + np.arange(T))[:, None], np.arange(S))
    return np.asarray(keep_mask(KEY, tuple(jnp.asarray(x) for x in places), pattern.dropout_rate))


def value_and_gradients(kind, inputs, d_out, offset, pattern, block, dtype=jnp.float32):
    *qkv, query_segments, key_segments = inputs
    first_heads = (5 + jnp.arange(len(query_segments))) * pattern.heads
    rest = (jnp.asarray(query_segments), jnp.asarray(key_segments), offset, first_heads, KEY)

    @jax.jit
    def attend(q, k, v, d_out):
        out, pull = jax.vjp(lambda *qkv: KINDS[kind](*qkv, *rest, pattern=pattern, block=block), q, k, v)
        return out, pull(d_out)

    return attend(*(jnp.asarray(x, dtype) for x in (*qkv, d_out)))


def assert_correct(kind, case, seed=0):
    pattern, B, T, S, offset, block = case
    inputs, d_out = example(pattern, B, T, S, offset, seed)
    out, gradients = value_and_gradients(kind, inputs, d_out, offset, pattern, block)
    keep = kept_entries(pattern, B, T, S, offset)
    expected, expected_gradients = reference(inputs, offset, pattern, d_out, keep)
    # float32 rounding (6e-8) of sums of a few dozen terms of size about 10.
    np.testing.assert_allclose(out, expected, rtol=0, atol=5e-6)
    for found, exact in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=3e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_and_gradients_are_those_of_the_definition(kind, case):
    assert_correct(kind, case)


@st.composite
def cases(draw):
    kv_heads, group = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    pattern = Pattern(
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([1, 2, 6])),
        scale=draw(st.floats(0.1, 1.0)),
        window=draw(st.none() | st.integers(1, 20)),
        softcap=draw(st.none() | st.floats(0.5, 10.0)),
        dropout_rate=draw(st.sampled_from([0.0, 0.1, 0.5])),
    )
    S = draw(st.integers(1, 24))
    offset = draw(st.integers(0, S - 1))
    return pattern, draw(st.integers(1, 2)), draw(st.integers(1, S - offset)), S, offset, draw(st.integers(1, 30))


@settings(max_examples=12)
@given(cases(), st.integers(0, 2**32 - 1))
def test_any_pattern_at_any_offset(case, seed):
    assert_correct("blockwise", case, seed)


def test_gradients_are_slopes_of_the_value():
    pattern = dataclasses.replace(CASES["everything"][0], head_dim=2)
    inputs, d_out = example(pattern, 1, 9, 27, 17)
    keep = kept_entries(pattern, 1, 9, 27, 17)
    _, gradients = value_and_gradients("blockwise", inputs, d_out, 17, pattern, 4)
    random = np.random.default_rng(3)
    for which in range(3):
        direction = random.standard_normal(inputs[which].shape)

        def loss(step, which=which, direction=direction):
            moved = tuple(x + step * direction if i == which else x for i, x in enumerate(inputs))
            return np.sum(reference(moved, 17, pattern, d_out, keep)[0] * d_out)

        # Central differences in float64 err by about step^2; the gradient is float32.
        slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(gradients[which]) * direction), slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_see_nothing_give_exactly_zero(kind):
    (q, k, v, segments, _), d_out = example(PLAIN, 2, 9, 9, 0)
    nowhere = np.zeros_like(segments)
    out, gradients = value_and_gradients(kind, (q, k, v, nowhere, nowhere), d_out, 0, PLAIN, 4)
    assert not np.any(out)
    assert not any(np.any(gradient) for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_large_scores_do_not_overflow(kind):
    (q, k, v, segments, _), d_out = example(PLAIN, 1, 12, 12, 0)
    q, k = 300 * q, 300 * k
    out, gradients = value_and_gradients(kind, (q, k, v, segments, segments), d_out, 0, PLAIN, 5)
    expected, _ = reference((q, k, v, segments, segments), 0, PLAIN, d_out)
    # Scores of about 1e5 carry an absolute error of 1e-2 in float32, which is what a weight may be off by.
    np.testing.assert_allclose(out, expected, rtol=0, atol=0.05)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_in_bfloat16_out_close_to_float64(kind):
    pattern = dataclasses.replace(PLAIN, kv_heads=2, softcap=5.0, window=20)
    (q, k, v, segments, _), d_out = example(pattern, 2, 32, 32, 0)
    q, k, v, d_out = (np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64) for x in (q, k, v, d_out))
    inputs = (q, k, v, segments, segments)
    out, gradients = value_and_gradients(kind, inputs, d_out, 0, pattern, 8, jnp.bfloat16)
    assert {x.dtype for x in (out, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    expected, expected_gradients = reference((q, k, v, segments, segments), 0, pattern, d_out)
    # bfloat16 keeps 8 bits: each entry is rounded by up to 2 ** -9, and so are the tiles before their products.
    for found, exact in zip((out, *gradients), (expected, *expected_gradients), strict=True):
        error = np.asarray(found, np.float64) - exact
        assert np.linalg.norm(error) < 0.01 * np.linalg.norm(exact)


@pytest.mark.parametrize("window", [None, 6, 1])
def test_every_visible_pair_lies_between_the_bounds_and_hardly_another_block(window):
    segments = np.array([[1] * 10 + [2] * 9 + [0] * 5, [1] * 3 + [2] * 3 + [3] * 18], np.int32)
    t, s, offset, T = 4, 3, 8, 15
    pattern = dataclasses.replace(PLAIN, window=window)
    queries = cut_segments(jnp.asarray(segments[:, offset : offset + T]), t, offset)
    first, end = key_blocks_seen(queries, cut_segments(jnp.asarray(segments), s, 0), pattern)
    mask = seen(segments[:, offset : offset + T], segments, offset, window).any(0)
    for i in range(4):
        needed = np.flatnonzero(mask[i * t : (i + 1) * t].any(0)) // s
        assert [int(first[i]), int(end[i])] == [int(needed.min()), int(needed.max()) + 1]


def test_causal_attention_visits_half_of_the_pairs():
    segments = jnp.ones((1, 64), jnp.int32)
    cut = cut_segments(segments, 4, 0)
    first, end = key_blocks_seen(cut, cut, PLAIN)
    assert int(jnp.sum(end - first)) == 16 * 17 // 2


def test_memory_grows_with_the_sequence_not_with_its_square():
    pattern = Pattern(2, 2, 8, 1.0)

    def temporary_bytes(T):
        q = jax.ShapeDtypeStruct((1, T, 16), jnp.float32)
        segments = jax.ShapeDtypeStruct((1, T), jnp.int32)
        rows = jnp.zeros(1, jnp.int32)
        loss = jax.grad(lambda q, s: blockwise_attention(q, q, q, s, s, 0, rows, None, pattern, 64).sum())
        memory = jax.jit(loss).lower(q, segments).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    assert temporary_bytes(4096) < 2.5 * temporary_bytes(2048)


def test_saved_by_name_the_forward_pass_runs_once():
    (q, k, v, *segments), _ = example(PLAIN, 1, 16, 16, 0)

    def loss(q, k, v):
        rest = (*map(jnp.asarray, segments), 0, jnp.arange(1), None, PLAIN, 8)
        return blockwise_attention(q, k, v, *rest).sum()

    def loops(policy):
        gradients = jax.jit(jax.value_and_grad(jax.checkpoint(loss, policy=policy), argnums=(0, 1, 2)))
        text = gradients.lower(*(jnp.float32(x) for x in (q, k, v))).compile().as_text()
        assert text is not None
        return text.count(" while(")

    saved = jax.checkpoint_policies.save_only_these_names("attention_out", "attention_lse")
    # A loop over query blocks with a loop over key blocks inside: forward, again forward, backward.
    assert loops(jax.checkpoint_policies.nothing_saveable) == 6
    assert loops(saved) == 4


@pytest.mark.parametrize("axis", ["data", "sequence"])
@pytest.mark.parametrize("kind", KINDS)
def test_split_over_two_devices_it_is_the_same(kind, axis):
    pattern = CASES["everything"][0]
    (q, k, v, _, segments), d_out = example(pattern, 2, 26, 26, 0)
    keep = kept_entries(pattern, 2, 26, 26, 0)
    spec = PartitionSpec("data") if axis == "data" else PartitionSpec(None, "sequence")

    def attend(q, k, v, segments, rows):
        offset, key_segments = 0, segments
        if axis == "sequence":
            offset = q.shape[1] * jax.lax.axis_index("sequence")
            k, v, key_segments = (jax.lax.all_gather(x, "sequence", axis=1, tiled=True) for x in (k, v, segments))
        return KINDS[kind](q, k, v, segments, key_segments, offset, rows, KEY, pattern=pattern, block=5)

    mesh = Mesh(np.array(jax.devices()[:2]), (axis,))
    rows_spec = PartitionSpec("data") if axis == "data" else PartitionSpec()
    split = jax.shard_map(attend, mesh=mesh, in_specs=(spec,) * 4 + (rows_spec,), out_specs=spec, check_vma=True)
    out, pull = jax.vjp(
        lambda q, k, v: jax.jit(split)(q, k, v, jnp.asarray(segments), (5 + jnp.arange(2)) * pattern.heads),
        *(jnp.float32(x) for x in (q, k, v)),
    )
    expected, expected_gradients = reference((q, k, v, segments, segments), 0, pattern, d_out, keep)
    # As on one device.
    np.testing.assert_allclose(out, expected, rtol=0, atol=5e-6)
    for found, exact in zip(pull(jnp.float32(d_out)), expected_gradients, strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=3e-5)


def test_gradients_of_shared_keys_are_summed_over_the_devices_that_share_them():
    (q, k, v, *_), d_out = example(PLAIN, 2, 12, 12, 0)
    k, v = k[:1], v[:1]  # both rows of the batch look at the same keys

    def attend(q, k, v):
        ones = jnp.ones((1, 12), jnp.int32)
        return blockwise_attention(q, k, v, ones, ones, 0, jnp.zeros(1, jnp.int32), None, PLAIN, 4)

    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    batch, shared = PartitionSpec("data"), PartitionSpec()
    split = jax.shard_map(attend, mesh=mesh, in_specs=(batch, shared, shared), out_specs=batch, check_vma=True)
    _, pull = jax.vjp(jax.jit(split), *(jnp.float32(x) for x in (q, k, v)))
    everywhere = np.ones((2, 12), np.int32)
    twice = np.repeat(k, 2, 0), np.repeat(v, 2, 0)
    _, (_, dk, dv) = reference((q, *twice, everywhere, everywhere), 0, PLAIN, d_out)
    _, found_dk, found_dv = pull(jnp.float32(d_out))
    # As on one device.
    np.testing.assert_allclose(found_dk, dk.sum(0, keepdims=True), rtol=0, atol=3e-5)
    np.testing.assert_allclose(found_dv, dv.sum(0, keepdims=True), rtol=0, atol=3e-5)
