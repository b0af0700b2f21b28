"""Keys and values of the tokens read so far, for all layers: [L, B, S, K * D] each, in one of three number formats.

fp8 keeps e4m3 values and, per row, position and head, the exponent e of a power of two, int8 [L, B, S, K]:

    x ~ 2^e q        e the least with max_D |x| <= 448 * 2^e

A power of two moves no significant bit, so what is lost is e4m3's rounding alone (1 part in 16), and the exponents need
one byte per head: (D + 1) / 2D of bfloat16's bytes, 0.508 for heads 64 wide. Keys are kept rotated.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vishwamai.contract.generation import CacheFormat

E4M3 = jnp.float8_e4m3fn
_BIAS = 9
"""The largest e4m3 value is 448 = 0.875 * 2^9."""
_DTYPES: dict[CacheFormat, jnp.dtype] = {
    "fp8": jnp.dtype(jnp.uint8),  # e4m3's bits: XLA converts e4m3 numbers to other floats even to move them, on CPUs
    "bf16": jnp.dtype(jnp.bfloat16),
    "float32": jnp.dtype(jnp.float32),
}


class Stored(NamedTuple):
    """Keys or values."""

    numbers: jax.Array
    """[L, B, S, K * D], bits in fp8; one layer's lack the L."""
    exponents: jax.Array | None
    """int8 [L, B, S, K] in fp8."""


class Cache(NamedTuple):
    """What attention remembers."""

    keys: Stored
    values: Stored


def empty_cache(layers: int, rows: int, length: int, kv_heads: int, head_dim: int, kept: CacheFormat) -> Cache:
    """Room for `length` positions of each row."""
    shape = (layers, rows, length, kv_heads)

    def room() -> Stored:
        numbers = jnp.zeros((*shape[:3], kv_heads * head_dim), _DTYPES[kept])
        return Stored(numbers, jnp.zeros(shape, jnp.int8) if kept == "fp8" else None)

    return Cache(room(), room())


def write(cache: Cache, layer: jax.Array, start: jax.Array, keys: jax.Array, values: jax.Array, head_dim: int) -> Cache:
    """The cache with keys and values [B, T, K * D] of one layer at positions start[b] .. start[b] + T - 1 of row b."""
    return Cache(
        *(_put(stored, layer, start, new, head_dim) for stored, new in zip(cache, (keys, values), strict=True))
    )


def of_layer(cache: Cache, layer: jax.Array) -> Cache:
    """One layer's part."""
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False), cache)


def bytes_of(cache: Cache) -> int:
    """Bytes of the whole cache."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(cache))


def widened(stored: Stored, dtype: jnp.dtype) -> jax.Array:
    """The stored numbers in the dtype that attention multiplies; exact for e4m3."""
    if stored.exponents is None:
        return stored.numbers.astype(dtype)
    return jax.lax.platform_dependent(
        stored.numbers,
        # XLA converts e4m3 on CPUs number by number, much slower than CPUs convert float16.
        cpu=lambda bits: _through_float16(bits).astype(dtype),
        default=lambda bits: jax.lax.bitcast_convert_type(bits, E4M3).astype(dtype),
    )


def quantized(x: jax.Array, head_dim: int) -> tuple[jax.Array, jax.Array]:
    """e4m3 numbers like x [..., K * D] as their bits, uint8, and their exponents int8 [..., K]."""
    heads = x.reshape(*x.shape[:-1], -1, head_dim).astype(jnp.float32)
    mantissa, exponent = jnp.frexp(jnp.max(jnp.abs(heads), axis=-1))
    exponent = jnp.clip(exponent - _BIAS + (mantissa > 0.875), -126, 126)  # so that 2^-e is a normal number
    numbers = (heads * jnp.exp2(-exponent.astype(jnp.float32))[..., None]).astype(E4M3)
    return jax.lax.bitcast_convert_type(numbers, jnp.uint8).reshape(x.shape), exponent.astype(jnp.int8)


def _through_float16(bits: jax.Array) -> jax.Array:
    """Shifted into float16's exponent and fraction, e4m3's bits mean 2^-8 of the number, subnormal ones included."""
    bits = bits.astype(jnp.uint16)
    halves = ((bits & 0x80) << 8) | ((bits & 0x7F) << 7)
    return jax.lax.bitcast_convert_type(halves, jnp.float16).astype(jnp.float32) * 256


def _put(stored: Stored, layer: jax.Array, start: jax.Array, new: jax.Array, head_dim: int) -> Stored:
    if stored.exponents is None:
        return Stored(_put_rows(stored.numbers, layer, start, new.astype(stored.numbers.dtype)), None)
    numbers, exponents = quantized(new, head_dim)
    return Stored(
        _put_rows(stored.numbers, layer, start, numbers), _put_rows(stored.exponents, layer, start, exponents)
    )


def _put_rows(kept: jax.Array, layer: jax.Array, start: jax.Array, new: jax.Array) -> jax.Array:
    """[L, B, S, F] with new [B, T, F] from position start[b] on."""
    rows, tokens = new.shape[:2]
    places = start[:, None] + jnp.arange(tokens)
    return kept.at[layer, jnp.arange(rows)[:, None], places].set(new, mode="drop", unique_indices=True)
