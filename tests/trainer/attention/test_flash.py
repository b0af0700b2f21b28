import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, PartitionSpec

from tests.trainer.attention import kernels
from trainer.attention.flash import flash_attention, supports, tiles
from trainer.attention.flash.bounds import NEVER, backward_bounds, first_visible, forward_bounds
from trainer.attention.flash.cost import kernel_cycles
from trainer.attention.flash.tiles import Tile, Tiles
from trainer.attention.flash.work import Work, tile_work
from trainer.attention.pattern import Pattern

SMALL = Tiles(Tile(128, 128, 128), Tile(128, 128, 128))
OBLONG = Tiles(Tile(256, 128, 128), Tile(128, 256, 128))
PAIR = Pattern(2, 2, 64, 64**-0.5)
CASES = {  # pattern, tokens, tiles, rotary
    "two heads share lanes": (PAIR, 384, SMALL, True),
    "oblong tiles, strips on the diagonal": (PAIR, 512, OBLONG, True),
    "turned already": (PAIR, 256, SMALL, False),
    "window": (dataclasses.replace(PAIR, window=70), 512, OBLONG, True),
    "soft-cap": (dataclasses.replace(PAIR, softcap=1.5), 256, SMALL, True),
    "both heads of a block use one key head": (Pattern(4, 2, 64, 0.1), 256, SMALL, True),
    "groups of three, half-empty last blocks": (Pattern(9, 3, 64, 0.1), 256, SMALL, True),
    "one key head of 64 lanes": (Pattern(4, 1, 64, 0.1), 256, SMALL, True),
    "one head of 64 lanes": (Pattern(1, 1, 64, 0.1), 256, SMALL, False),
    "a head to a block, in groups": (Pattern(4, 2, 128, 0.1), 384, SMALL, True),
    "a head of two blocks' lanes": (Pattern(2, 1, 256, 0.06), 256, SMALL, True),
    "four heads to a block": (Pattern(8, 2, 32, 0.2), 256, SMALL, True),
    "eight heads to a block": (Pattern(8, 8, 16, 0.25), 256, SMALL, True),
    "everything": (Pattern(4, 1, 128, 0.1, window=150, softcap=2.0), 512, OBLONG, True),
}


@pytest.fixture
def use_tiles(monkeypatch):
    return lambda chosen: monkeypatch.setitem(tiles.TUNED, "v5e", chosen)


@pytest.mark.parametrize("case", CASES)
def test_equals_the_definition_in_value_and_gradients(case, use_tiles):
    pattern, T, chosen, rotary = CASES[case]
    use_tiles(chosen)
    inputs, d_out, segments, tables = kernels.example(pattern, 2, T)
    tables = tables if rotary else None
    attend = partial(flash_attention, segments=segments, tables=tables, pattern=pattern, interpret=True)
    wanted = kernels.expected(inputs, d_out, segments, tables, pattern)
    # float32: sums of up to 512 rounded products, 2^-24 each, that partly cancel.
    kernels.assert_close(kernels.computed(attend, inputs, d_out), wanted, 2e-5)


@pytest.mark.parametrize(
    "pattern", [PAIR, Pattern(4, 2, 128, 0.1, window=150, softcap=2.0)], ids=["plain", "everything"]
)
def test_bfloat16_rounds_no_more_than_its_operands(pattern, use_tiles):
    use_tiles(SMALL)
    inputs, d_out, segments, tables = kernels.example(pattern, 2, 384)
    inputs = tuple(np.asarray(jnp.asarray(x, jnp.bfloat16), np.float32) for x in inputs)
    d_out = np.asarray(jnp.asarray(d_out, jnp.bfloat16), np.float32)
    attend = partial(flash_attention, segments=segments, tables=tables, pattern=pattern, interpret=True)
    got = kernels.computed(attend, inputs, d_out, jnp.bfloat16)
    assert {x.dtype for x in got} == {jnp.dtype(jnp.bfloat16)}
    # Up to six factors rounded by 2^-9 (turned q and k, p, ds, do, the result).
    kernels.assert_close(got, kernels.expected(inputs, d_out, segments, tables, pattern), 6 * 2.0**-9)


def test_padding_gives_zeros_and_takes_no_gradient(use_tiles):
    use_tiles(SMALL)
    inputs, d_out, _, tables = kernels.example(PAIR, 2, 256)
    segments = np.zeros((2, 256), np.int32)
    segments[1, :100] = 1
    attend = partial(flash_attention, segments=jnp.asarray(segments), tables=tables, pattern=PAIR, interpret=True)
    for array in kernels.computed(attend, inputs, d_out):
        assert not np.asarray(array)[0].any()
        assert not np.asarray(array)[1, 100:].any()
        assert np.asarray(array)[1, :100].any()


def test_same_in_a_shard_map_over_heads_and_batch(use_tiles):
    use_tiles(SMALL)
    pattern = Pattern(4, 2, 64, 0.1)
    inputs, d_out, segments, tables = kernels.example(pattern, 2, 256)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    split, rows = PartitionSpec("data", None, "model"), PartitionSpec("data")
    local = dataclasses.replace(pattern, heads=2, kv_heads=1)
    sharded = jax.shard_map(
        lambda q, k, v, s: flash_attention(q, k, v, s, tables, local, interpret=True),
        mesh=mesh,
        in_specs=(split, split, split, rows),
        out_specs=split,
    )
    got = kernels.computed(lambda q, k, v: sharded(q, k, v, segments), inputs, d_out)
    whole = partial(flash_attention, segments=segments, tables=tables, pattern=pattern, interpret=True)
    # The same numbers in the same order, but for what XLA makes of them.
    kernels.assert_close(got, kernels.computed(whole, inputs, d_out), 1e-6)


@pytest.mark.parametrize(("saved", "calls"), [(("attention_out", "attention_lse"), 1), ((), 2)])
def test_a_remat_policy_that_saves_its_names_runs_the_forward_kernel_once(saved, calls):
    inputs, _, segments, tables = kernels.example(PAIR, 1, 256)

    def layer(x, w):
        out = flash_attention(x @ w, inputs[1], inputs[2], segments[:1], tables, PAIR, interpret=True)
        return jnp.sum(jnp.sin(out))

    remat = jax.checkpoint(layer, policy=jax.checkpoint_policies.save_only_these_names(*saved))
    jaxpr = str(jax.make_jaxpr(jax.grad(remat, argnums=(0, 1)))(inputs[0], jnp.eye(128)))
    assert len(re.findall(r"name=flash_forward\b", jaxpr)) == calls
    assert len(re.findall(r"name=flash_backward\b", jaxpr)) == 1


documents = st.lists(st.integers(1, 150), min_size=1, max_size=12)
sides = st.sampled_from([Tile(128, 64, 64), Tile(64, 64, 64), Tile(64, 128, 64)])


def rows_of(lengths, seq):
    segments = np.repeat(np.arange(1, len(lengths) + 1), lengths)[:seq]
    return np.pad(segments, (0, seq - len(segments)))[None].astype(np.int32)


@given(lengths=documents, tile=sides, window=st.none() | st.integers(1, 400))
@settings(max_examples=60)
def test_tiles_that_are_skipped_hold_nothing_and_those_without_a_mask_everything(lengths, tile, window):
    seq = 384
    segments = rows_of(lengths, seq)
    index = np.arange(seq)
    distance = index[:, None] - index
    visible = (segments[0][:, None] == segments[0]) & (segments[0] != 0) & (distance >= 0)
    visible &= distance < (window or seq)
    first = np.asarray(first_visible(jnp.asarray(segments), window))
    assert np.array_equal((first[0][:, None] <= index) & (index <= index[:, None]), visible)
    forward, backward = tile.queries >= tile.keys, tile.keys >= tile.queries
    if forward:
        for i, (edge, full) in enumerate(np.asarray(forward_bounds(jnp.asarray(first), tile)).reshape(-1, 2)):
            band = visible[i * tile.queries : (i + 1) * tile.queries]
            assert not band[:, : edge * tile.keys].any()
            assert band[:, full * tile.keys : i * tile.queries].all()
    if backward:
        for j, (full, end) in enumerate(np.asarray(backward_bounds(jnp.asarray(first), tile)).reshape(-1, 2)):
            band = visible[:, j * tile.keys : (j + 1) * tile.keys]
            assert band[(j + 1) * tile.keys : full * tile.queries].all()
            assert not band[end * tile.queries :].any()


@given(tile=sides, window=st.none() | st.integers(1, 400))
@settings(max_examples=40)
def test_the_work_of_one_document_is_what_the_bounds_say(tile, window):
    pattern, seq = dataclasses.replace(PAIR, window=window), 384
    first = first_visible(jnp.ones((1, seq), jnp.int32), window)
    if tile.queries >= tile.keys:
        edge, full = np.asarray(forward_bounds(first, tile)).reshape(-1, 2).T
        work = tile_work(pattern, 3, seq, tile, "flash_forward")
        diagonal = np.arange(seq // tile.queries) * tile.queries // tile.keys
        assert (work.edge, work.whole) == ((full - edge).sum(), (diagonal - full).sum())
    if tile.keys >= tile.queries:
        full, end = np.asarray(backward_bounds(first, tile)).reshape(-1, 2).T
        work = tile_work(pattern, 3, seq, tile, "flash_backward")
        below = (np.arange(seq // tile.keys) + 1) * tile.keys // tile.queries
        assert (work.whole, work.edge) == ((full - below).sum(), (end - full).sum())


def test_padding_sees_nothing():
    first = first_visible(jnp.asarray([[1, 1, 0, 0]]), None)
    assert first.tolist() == [[0, 0, NEVER, NEVER]]


@pytest.mark.parametrize(
    ("change", "seq", "dtype", "generation", "reason"),
    [
        ({}, 2048, jnp.bfloat16, "v3", "v3"),
        ({}, 2048, jnp.float16, "v5e", "float16"),
        ({"head_dim": 80}, 2048, jnp.bfloat16, "v5e", "head_dim is 80"),
        ({"dropout_rate": 0.1}, 2048, jnp.bfloat16, "v5e", "drop"),
        ({}, 2000, jnp.bfloat16, "v5e", "2000 tokens is not a multiple of 128"),
        ({"head_dim": 128}, 65536, jnp.bfloat16, "v6e", "65536 tokens does not fit in the vector memory of v6e"),
    ],
)
def test_says_what_it_does_not_take(change, seq, dtype, generation, reason):
    assert reason in str(supports(dataclasses.replace(PAIR, **change), seq, dtype, generation))


@pytest.mark.parametrize("generation", ["v5e", "v5p", "v6e", "tpu7x"])
def test_takes_8192_tokens_of_128_wide_heads_in_groups(generation):
    assert supports(Pattern(32, 8, 128, 0.1), 8192, jnp.bfloat16, generation) is None


def test_a_call_that_it_does_not_take_says_why():
    (q, k, v), _, segments, _ = kernels.example(PAIR, 1, 200)
    with pytest.raises(ValueError, match="200 tokens is not a multiple of 128"):
        flash_attention(q, k, v, segments, None, PAIR, interpret=True)


def test_cycles_weigh_each_loop_by_its_trips():
    grid, rows, trips = 12, 4, (0.5, 5.0)
    bundles = [
        *["  : { %z1 = smov.u32 0 }", "  : { %z2 = smov.u32 0 }"],
        *["LB: > { %s1 = sphi %z1, %n1 }", "  : > { nop }"],
        *["LB: >> { %s2 = sphi %z2, %n2 }", "  : >> { nop }"],
        *["LB: >>> { %s3 = sphi %b3, %n3 }", "  : >>> { %p3 = scmp.ge.s32.totalorder %n3, %e3 }", "  : >> { nop }"],
        *["LB: >>> { %s4 = sphi %b4, %n4 }", "  : >>> { nop }", "  : >>> { %p4 = scmp.ge.s32.totalorder %n4, %e4 }"],
        *["  : >> { %n2 = sadd.s32 1, %s2 }", f"  : >> {{ %p2 = scmp.ge.s32.totalorder %n2, {rows} }}"],
        *["  : > { %n1 = sadd.s32 1, %s1 }", f"  : > {{ %p1 = scmp.ge.s32.totalorder %n1, {grid} }}", "  : { nop }"],
    ]
    text = "\n".join(f"{place:#6x} {bundle}" for place, bundle in enumerate(bundles))
    work = Work(grid=grid, steps=1, rows=rows, whole=20, edge=2, trips=trips)
    row = 5 + 2 * trips[0] + 3 * trips[1]
    assert kernel_cycles(text, "flash_forward", work) == round(3 + grid * (4 + rows * row))
    with pytest.raises(ValueError, match="0 loops of unknown length"):
        kernel_cycles(text.splitlines()[0], "flash_forward", work)
