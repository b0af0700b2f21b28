import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.generate.cache import E4M3, Stored, bytes_of, empty_cache, of_layer, quantized, widened, write

D = 4
QUANTIZED = jax.jit(quantized, static_argnums=1)
numbers = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def restored(x, head_dim):
    bits, exponents = QUANTIZED(jnp.asarray(x), head_dim)
    heads = np.asarray(bits).view(E4M3).astype(np.float64).reshape(*x.shape[:-1], -1, head_dim)
    return (heads * 2.0 ** np.asarray(exponents, np.float64)[..., None]).reshape(x.shape)


@given(st.lists(numbers, min_size=2 * D, max_size=2 * D))
def test_fp8_rounds_to_its_own_precision_and_never_overflows(values):
    x = np.array([values], np.float32)
    heads = np.abs(x.reshape(2, D)).astype(np.float64)
    error = np.abs(restored(x, D) - x).reshape(2, D)
    # e4m3 has three bits behind the leading one, so half of 1/8 of a number is lost at most; what is below 2^-6 of its
    # unit is rounded to a multiple of 2^-9, and the largest of a head is more than 224 such units.
    largest = heads.max(-1, keepdims=True)
    assert (error <= np.maximum(heads / 16, largest / 224 * 2.0**-10) + 1e-37).all()


@pytest.mark.parametrize(
    "head", [[0.0] * 4, [1e-30, -2e-31, 0, 0], [448.0, 1, -1, 0.5], [449.0, 1, -1, 0.5], [1e30] * 4]
)
def test_fp8_of_odd_heads(head):
    x = np.array([head], np.float32)
    largest = np.abs(x).max()
    np.testing.assert_allclose(restored(x, 4), x, rtol=1 / 16, atol=largest * 2.0**-17)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_fp8_number_is_widened_exactly(dtype):
    numbers = np.arange(256, dtype=np.uint8).view(E4M3)
    numbers = numbers[np.isfinite(numbers.astype(np.float32))]
    assert len(numbers) == 254
    stored = Stored(jnp.asarray(numbers.view(np.uint8)), jnp.zeros(1, jnp.int8))
    found = jax.jit(widened, static_argnums=1)(stored, jnp.dtype(dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.asarray(found, np.float32), numbers.astype(np.float32))


@pytest.mark.parametrize(("head_dim", "ratio"), [(32, 33 / 64), (64, 65 / 128), (128, 129 / 256)])
def test_fp8_takes_little_more_than_half_of_bfloat16(head_dim, ratio):
    sizes = {
        kept: bytes_of(jax.eval_shape(lambda kept=kept: empty_cache(2, 3, 5, 4, head_dim, kept)))
        for kept in ("fp8", "bf16", "float32")
    }
    assert sizes["bf16"] == 2 * (2 * 3 * 5 * 4 * head_dim) * 2
    assert sizes["float32"] == 2 * sizes["bf16"]
    assert sizes["fp8"] / sizes["bf16"] == ratio <= 0.53


@pytest.mark.parametrize("kept", ["fp8", "bf16", "float32"])
def test_each_row_is_written_at_its_own_place(kept):
    cache = empty_cache(3, 2, 6, 2, D, kept)
    new = jnp.asarray(np.random.default_rng(0).integers(-3, 4, (2, 2, 2 * D)), jnp.float32)
    cache = write(cache, jnp.uint32(1), jnp.array([0, 3]), new, -new, D)
    found = of_layer(cache, jnp.uint32(1))
    for stored, wanted in zip(found, (new, -new), strict=True):
        kept_numbers = np.asarray(widened(stored, jnp.dtype(jnp.float32)))
        if stored.exponents is not None:
            kept_numbers = kept_numbers * np.repeat(2.0 ** np.asarray(stored.exponents, np.float32), D, -1)
        rows = np.zeros((2, 6, 2 * D), np.float32)
        rows[0, 0:2], rows[1, 3:5] = wanted[0], wanted[1]
        np.testing.assert_array_equal(kept_numbers, rows)  # small whole numbers are exact in every format
    for other in (0, 2):
        assert not np.asarray(of_layer(cache, jnp.uint32(other)).keys.numbers, np.float32).any()
