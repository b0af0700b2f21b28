import jax.numpy as jnp
import numpy as np
import pytest

from trainer.attention.rotary import rotary_tables, rotate
from trainer.model.layers import RMSNorm, dropout
from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import RopeScalingSection


def test_norm_takes_its_statistics_in_float32():
    # A sum of squares kept in bfloat16 would stop growing once a term is less than 1/256 of it.
    x = jnp.full((1, 4096), 3.0, jnp.bfloat16)
    out = RMSNorm(ModelSection(), 4096)(x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(out, np.float32), 1.0)


def test_norm_of_a_silent_token_is_finite():
    np.testing.assert_array_equal(RMSNorm(ModelSection(), 4)(jnp.zeros((1, 4))), 0.0)


def model(head_dim=4, **changes):
    return ModelSection(head_dim=head_dim, **changes)


def turned(vector, position, theta=10_000.0):
    x = jnp.asarray(vector, jnp.float32).reshape(1, 1, -1)
    D = x.shape[-1]
    return np.asarray(rotate(x, rotary_tables(model(D, rope_theta=theta), "full", jnp.array([position])), D))[0, 0]


def test_a_plane_is_feature_i_and_i_plus_half():
    # The first plane turns by one radian per position, the last (of two, theta 100) by a tenth.
    np.testing.assert_allclose(turned([1, 0, 0, 0], 1, 100.0), [np.cos(1), 0, np.sin(1), 0], atol=1e-7)
    np.testing.assert_allclose(turned([0, 0, 0, 1], 3, 100.0), [0, -np.sin(0.3), 0, np.cos(0.3)], atol=1e-7)
    np.testing.assert_array_equal(turned([1, 2, 3, 4], 0), [1, 2, 3, 4])


@pytest.mark.parametrize("shift", [1, 17, 4000])
def test_scores_depend_on_distance_alone(shift):
    random = np.random.default_rng(0)
    q, k = random.standard_normal((2, 16))
    # float32 angles of a few thousand radians are exact to about 2e-4.
    assert turned(q, 5) @ turned(k, 2) == pytest.approx(turned(q, 5 + shift) @ turned(k, 2 + shift), abs=2e-3)


def angles(kind="full", **changes):
    """Of position 1: the frequencies."""
    cos, sin = rotary_tables(model(16, **changes), kind, jnp.array([1]))
    return np.arctan2(sin[0], cos[0])


def test_linear_scaling_divides_every_frequency():
    scaling = RopeScalingSection(kind="linear", factor=4.0)
    np.testing.assert_allclose(angles(rope_scaling=scaling), angles() / 4, rtol=1e-6)


def test_llama3_scaling_leaves_fast_planes_and_stretches_slow_ones():
    scaling = RopeScalingSection(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=64)
    plain, scaled = angles(), angles(rope_scaling=scaling)
    waves = 64 * plain / (2 * np.pi)  # in the original window
    np.testing.assert_allclose(scaled[waves > 4], plain[waves > 4], rtol=1e-6)
    np.testing.assert_allclose(scaled[waves < 1], plain[waves < 1] / 8, rtol=1e-6)
    between = (waves > 1) & (waves < 4)
    assert between.any()
    smooth = (waves[between] - 1) / 3
    np.testing.assert_allclose(scaled[between], plain[between] * (smooth + (1 - smooth) / 8), rtol=1e-5)


def test_sliding_layers_may_have_a_base_of_their_own_that_is_never_scaled():
    changes = {"rope_theta": 1e6, "rope_local_theta": 1e4, "rope_scaling": RopeScalingSection(kind="linear")}
    np.testing.assert_array_equal(angles("sliding", **changes), angles("full", rope_theta=1e4))
    assert np.all(angles("full", **changes)[1:] < angles("sliding", **changes)[1:])


def test_offset_norm_multiplies_by_one_plus_its_weight():
    x = jnp.array([3.0, 4.0])
    plain, offset = RMSNorm(ModelSection(), 2), RMSNorm(ModelSection(norm_offset=True), 2)
    np.testing.assert_array_equal(plain(x), offset(x))
    assert float(offset.scale[...].sum()) == 0.0
    offset.scale[...] = jnp.array([1.0, 0.0])
    np.testing.assert_allclose(offset(x), plain(x) * jnp.array([2.0, 1.0]), rtol=1e-6)


def mask(key, rows, positions, rate=0.25, features=1000):
    x = jnp.ones((len(rows), len(positions), features))
    return np.asarray(dropout(x, rate, jnp.array(rows), jnp.array(positions), jnp.uint32(key)))


def test_dropout_keeps_the_mean_and_is_off_without_a_key():
    y = mask(0, range(10), range(10))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    x = jnp.ones((1, 1, 8))
    assert dropout(x, 0.25, jnp.array([0]), jnp.array([0]), None) is x
    assert dropout(x, 0.0, jnp.array([0]), jnp.array([0]), jnp.uint32(0)) is x


def test_dropout_goes_by_the_place_of_a_token_in_the_step():
    whole = mask(7, range(4), range(6))
    np.testing.assert_array_equal(mask(7, [2, 3], [4, 5]), whole[2:, 4:])
    # Independent bits agree in about 0.25^2 + 0.75^2 = 62.5% of the places.
    for other in (mask(8, range(4), range(6)), whole[::-1], whole[:, ::-1]):
        assert (whole == other).mean() == pytest.approx(0.625, abs=0.02)
