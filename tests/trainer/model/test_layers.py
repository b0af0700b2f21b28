import jax.numpy as jnp
import numpy as np
import pytest

from trainer.model.layers import RMSNorm
from trainer.model.rotary import rotary_tables, rotate


def test_norm_takes_its_statistics_in_float32():
    # A sum of squares kept in bfloat16 would stop growing once a term is less than 1/256 of it.
    x = jnp.full((1, 4096), 3.0, jnp.bfloat16)
    out = RMSNorm((4096,), ("norm",), 1e-6)(x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(out, np.float32), 1.0)


def test_norm_of_a_silent_token_is_finite():
    np.testing.assert_array_equal(RMSNorm((4,), ("norm",), 1e-6)(jnp.zeros((1, 4))), 0.0)


def turned(vector, position, theta=10_000.0):
    x = jnp.asarray(vector, jnp.float32).reshape(1, 1, 1, -1)
    return np.asarray(rotate(x, rotary_tables(jnp.array([[position]]), x.shape[-1], theta)))[0, 0, 0]


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
