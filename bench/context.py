"""Attention over a window that devices split: keys and values gathered whole, or sent round a ring.

`python -m bench.context [SEQ ...]`, on four virtual CPU devices. Devices of one CPU share its cores, so the time is
that of all work and copies, without what a network adds; memory is that of one device.
"""

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bench.peers.ring import ring_attention
from bench.turns import print_turns
from trainer.attention.blockwise import blockwise_attention
from trainer.attention.pattern import Pattern

DEVICES, HEADS, HEAD_DIM, BLOCK, ROUNDS = 4, 8, 64, 256, 3
SPLIT = PartitionSpec(None, "sequence")


def gathered_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """As trainer.attention.attend does it."""
    pattern = Pattern(HEADS, HEADS, HEAD_DIM, HEAD_DIM**-0.5)
    B, T, _ = q.shape
    k, v = (jax.lax.all_gather(x, "sequence", axis=1, tiled=True) for x in (k, v))
    ones = jax.lax.pcast(jnp.ones((B, T), jnp.int32), ("sequence",), to="varying")
    key_segments = jax.lax.all_gather(ones, "sequence", axis=1, tiled=True)
    offset = T * jax.lax.axis_index("sequence")
    return blockwise_attention(q, k, v, ones, key_segments, offset, jnp.arange(B), None, pattern, BLOCK)


def main(lengths: list[int]) -> None:
    """Prints a table for each length of the window."""
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("sequence",))
    for length in lengths:
        place = NamedSharding(mesh, SPLIT)
        inputs = tuple(jax.device_put(jax.random.normal(jax.random.key(0), (4, 1, length, HEADS * HEAD_DIM))[i], place)
                       for i in range(4))  # fmt: skip
        print(f"\nseq {length} over {DEVICES} devices, {HEADS} heads x {HEAD_DIM}, forward and backward")
        functions: dict[str, Callable[..., jax.Array]] = {
            "ring": partial(ring_attention, heads=HEADS),
            "gathered": gathered_attention,
        }
        print_turns({name: _gradients(f, mesh) for name, f in functions.items()}, inputs, rounds=ROUNDS)


def _gradients(attend: Callable[..., jax.Array], mesh: Mesh) -> Callable[..., tuple[jax.Array, ...]]:
    whole = jax.shard_map(attend, mesh=mesh, in_specs=(SPLIT, SPLIT, SPLIT), out_specs=SPLIT)
    return jax.grad(lambda q, k, v, d_out: jnp.sum(whole(q, k, v) * d_out), argnums=(0, 1, 2))


if __name__ == "__main__":
    main([int(length) for length in sys.argv[1:]] or [4096, 16384])
