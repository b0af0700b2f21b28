import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trainer.hashing import keep_mask, random_bits

KEY = jnp.asarray([3, 5], jnp.uint32)


def places(*sizes):
    return tuple(jnp.asarray(x) for x in np.ix_(*(np.arange(size) for size in sizes)))


def bits_of(*sizes, key=KEY):
    return np.asarray(random_bits(key, places(*sizes)))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1 - 1e-6])
def test_drops_the_rate(rate):
    kept = np.asarray(keep_mask(KEY, places(4, 3, 100, 1000), rate))
    # Six standard deviations of a share of 1.2 million fair draws.
    assert abs(kept.mean() - (1 - rate)) <= 6 * np.sqrt(rate * (1 - rate) / kept.size)


def test_any_part_is_the_same_as_in_the_whole():
    whole = bits_of(2, 3, 40, 50)
    row, head, query, key = places(2, 3, 40, 50)
    part = random_bits(KEY, (row, head, query[:, :, 8:16], key[..., 30:]))
    np.testing.assert_array_equal(part, whole[:, :, 8:16, 30:])
    across = random_bits(KEY, (row, head, query.swapaxes(2, 3), key.swapaxes(2, 3)))
    np.testing.assert_array_equal(across, whole.swapaxes(2, 3))


def test_every_bit_is_fair_and_independent_of_its_neighbours():
    bits = np.unpackbits(bits_of(64, 4096).view(np.uint8).reshape(64, 4096, 4), axis=-1).astype(float)
    assert bits.shape == (64, 4096, 32)
    noise = 6 / np.sqrt(64 * 4096)  # six standard deviations of a mean of that many signs
    signs = 2 * bits - 1
    assert np.abs(signs.mean((0, 1))).max() < noise
    assert np.abs((signs[:, 1:] * signs[:, :-1]).mean((0, 1))).max() < noise
    assert np.abs((signs[1:] * signs[:-1]).mean((0, 1))).max() < noise


def test_no_row_is_another_one_shifted():
    """What one word a row would give: rows that start at different points of one cycle of numbers."""
    bits = bits_of(512, 512)
    values, counts = np.unique(bits, return_counts=True)
    # A quarter of a million draws out of 2^32: 8 pairs meet by chance, and hardly ever 30.
    assert (counts - 1).sum() < 30
    assert len(values) > bits.size - 30


@pytest.mark.parametrize("other", [[3, 6], [4, 5], [5, 3], [3], [3, 5, 0], [2**32 - 1, 5]])
def test_other_keys_give_unrelated_bits(other):
    ours = 2.0 * (bits_of(100, 1000) >> 31) - 1
    theirs = 2.0 * (bits_of(100, 1000, key=jnp.asarray(other, jnp.uint32)) >> 31) - 1
    assert abs((ours * theirs).mean()) < 6 / np.sqrt(ours.size)


def test_neighbouring_steps_give_unrelated_masks():
    steps = np.stack([bits_of(64, 64, key=jnp.asarray([0, step], jnp.uint32)) >> 31 for step in range(64)])
    signs = (2.0 * steps - 1).reshape(64, -1)
    correlations = signs @ signs.T / signs.shape[1] - np.eye(64)
    assert np.abs(correlations).max() < 6 / np.sqrt(signs.shape[1])


def test_compiled_it_gives_the_same_bits():
    np.testing.assert_array_equal(jax.jit(random_bits)(KEY, places(5, 7)), bits_of(5, 7))
