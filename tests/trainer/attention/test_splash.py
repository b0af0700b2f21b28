import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests.trainer.attention import kernels
from trainer.attention.pattern import Pattern
from trainer.attention.splash import splash_attention, supports

GROUPED = Pattern(4, 2, 64, 0.1)
PATTERNS = {
    "grouped heads": GROUPED,
    "window": dataclasses.replace(GROUPED, window=70),
    "one key head, soft-cap": Pattern(2, 1, 128, 0.1, softcap=1.5),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_equals_the_definition_in_value_and_gradients(name):
    pattern = PATTERNS[name]
    inputs, d_out, segments, tables = kernels.example(pattern, 2, 256)
    attend = partial(splash_attention, segments=segments, tables=tables, pattern=pattern, interpret=True)
    got = kernels.computed(attend, inputs, d_out)
    # float32: sums of up to 256 rounded products, 2^-24 each, that partly cancel.
    kernels.assert_close(got, kernels.expected(inputs, d_out, segments, tables, pattern), 2e-5)
    assert not np.asarray(got[0])[segments == 0].any()


def test_same_in_a_shard_map_over_heads_and_batch():
    inputs, d_out, segments, tables = kernels.example(GROUPED, 2, 128)
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    split, rows = PartitionSpec("data", None, "model"), PartitionSpec("data")
    local = dataclasses.replace(GROUPED, heads=2, kv_heads=1)
    sharded = jax.shard_map(
        lambda q, k, v, s: splash_attention(q, k, v, s, tables, local, interpret=True),
        mesh=mesh,
        in_specs=(split, split, split, rows),
        out_specs=split,
    )
    got = kernels.computed(lambda q, k, v: sharded(q, k, v, segments), inputs, d_out)
    whole = partial(splash_attention, segments=segments, tables=tables, pattern=GROUPED, interpret=True)
    # The same numbers in the same order, but for what XLA makes of them.
    kernels.assert_close(got, kernels.computed(whole, inputs, d_out), 1e-6)


@pytest.mark.parametrize(
    ("change", "seq", "dtype", "generation", "reason"),
    [
        ({}, 2048, jnp.bfloat16, "v3", "v3"),
        ({}, 2048, jnp.float16, "v5e", "float16"),
        ({"dropout_rate": 0.1}, 2048, jnp.bfloat16, "v5e", "drop"),
        ({}, 2000, jnp.bfloat16, "v5e", "2000 tokens is not a multiple of 128"),
    ],
)
def test_says_what_it_does_not_take(change, seq, dtype, generation, reason):
    assert reason in str(supports(dataclasses.replace(GROUPED, **change), seq, dtype, generation))
    assert supports(GROUPED, 2048, jnp.bfloat16, "v5e") is None
