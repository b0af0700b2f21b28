"""Random bits from a counter: what dropout keeps, computed anew wherever it is needed and never stored.

Entry (i_1, ..., i_n) of a mask depends on the key and on its indices alone, so any block of it can be made in any
order, forward and backward, and comes out the same. Two words, a and an odd b, are carried through the indices:

    a <- mix(a + b h(i)),   b <- mix(b + a) | 1      and for the last index   bits = mix(a + b h(i))

with mix the 32-bit finalizer of MurmurHash3 (Appleby 2011), which flips half of its output bits for any flipped input
bit, and h(i) = mix(i + 0x9E3779B9). Only the last index costs work for every entry: three products and three
shifts, where threefry takes 20 rounds. b makes the step between neighbours differ from row to row, so that no row
is another one shifted. Not for cryptography.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def keep_mask(key: jax.Array, indices: Sequence[jax.Array], rate: float) -> jax.Array:
    """True where dropout keeps an entry: with probability 1 - rate, to within 2 ** -32.

    Args:
        key: uint32 words, of any shape; as a rule () or [2].
        indices: int arrays that broadcast against each other, the slowest first: each may have size 1 along the
            dimensions that it does not depend on, which is what keeps the hash cheap.
        rate: share of entries to drop, 0 <= rate < 1.

    Returns:
        bool array of the indices' common shape.
    """
    return random_bits(key, indices) >= jnp.uint32(round(rate * 2**32))


def random_bits(key: jax.Array, indices: Sequence[jax.Array]) -> jax.Array:
    """uint32 bits of the indices' common shape; arguments as for `keep_mask`."""
    a, b = jnp.uint32(0x243F6A88), jnp.uint32(0x85A308D3)  # digits of pi: any start would do
    words = key.astype(jnp.uint32).reshape(-1)
    for index in (*(words[i] for i in range(words.size)), *indices[:-1]):
        a = _mix(a + b * _spread(index))
        b = _mix(a + b) | jnp.uint32(1)
    return _mix(a + b * _spread(indices[-1]))


def _spread(index: jax.Array) -> jax.Array:
    return _mix(index.astype(jnp.uint32) + jnp.uint32(0x9E3779B9))


def _mix(x: jax.Array) -> jax.Array:
    """MurmurHash3's 32-bit finalizer."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
