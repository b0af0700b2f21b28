"""Eight-bit products against their definition in NumPy, on what is hard to round, on meshes, and as XLA sees them."""

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec

from trainer.precision import low_precision_product

E4M3, E5M2 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)
KINDS = ("fp8", "int8")


def rounded(x, to, axis=None):
    """x as the format holds it at its scale, in float64."""
    largest = 127.5 if to == np.int8 else float(ml_dtypes.finfo(to).max)
    scale = np.max(np.abs(x), axis=axis, keepdims=True) / largest
    scale = np.where(scale < 1e-19, 1.0, scale).astype(np.float32)
    scaled = np.float32(x) / scale
    kept = np.clip(np.round(scaled), -128, 127) if to == np.int8 else np.clip(scaled, -largest, largest).astype(to)
    return np.asarray(kept, np.float64) * scale


def expected(x, w, dy, kind):
    if kind == "fp8":
        x, w, dy = rounded(x, E4M3), rounded(w, E4M3), rounded(dy, E5M2)
        return np.matmul(x, w), np.matmul(dy, w.T), np.matmul(x.T, dy)
    by_token, w = rounded(x, np.int8, axis=-1), rounded(w, np.int8)
    return (
        np.matmul(by_token, w),
        np.matmul(rounded(dy, np.int8, axis=-1), w.T),
        np.matmul(np.asarray(x, np.float64).T, dy),
    )


def results(kind, *operands):
    x, w, dy = operands
    y, pull = jax.vjp(lambda x, w: low_precision_product(x, w, kind), jnp.asarray(x), jnp.asarray(w))
    return (y, *pull(jnp.asarray(dy, y.dtype)))


def example(seed=0, T=24, I=16, O=8):  # noqa: E741
    random = np.random.default_rng(seed)
    return tuple(np.float32(random.standard_normal(shape)) for shape in ((T, I), (I, O), (T, O)))


def assert_close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        error = np.abs(np.float64(one) - other) / np.max(np.abs(other))
        # float32 sums of a few products. A quotient in the middle of two numbers may fall to either side, as the
        # largest of int8 does, at 127.5: by 2^-4 of itself in e4m3, in sums of 8 to 24.
        assert np.median(error) < 1e-3
        assert np.max(error) < 0.04


@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-12, 1.0, 1e12]))
def test_it_is_the_product_of_the_rounded(kind, seed, size):
    x, w, dy = example(seed)
    x *= np.float32(size)
    assert_close(results(kind, x, w, dy), expected(x, w, dy, kind))


@pytest.mark.parametrize(("kind", "error"), [("fp8", 0.06), ("int8", 0.02)])
def test_it_is_near_the_exact_product(kind, error):
    x, w, dy = example(T=512, I=256, O=128)
    exact = x @ w, dy @ w.T, x.T @ dy
    for found, wanted in zip(results(kind, x, w, dy), exact, strict=True):
        # e4m3 rounds by up to 2^-4, e5m2 by 2^-3, int8 by 1/255 of the largest: as noise, about a third of that.
        assert np.linalg.norm(found - wanted) < error * np.linalg.norm(wanted)
    assert np.linalg.norm(results(kind, x, w, dy)[0] - exact[0]) > 1e-3 * np.linalg.norm(exact[0])  # it does round


@pytest.mark.parametrize("kind", KINDS)
def test_shape_and_type_are_those_of_the_operands(kind):
    x, w, dy = (jnp.asarray(a, jnp.bfloat16) for a in example())
    y, dx, dw = results(kind, x.reshape(2, 3, 4, 16), w, dy.reshape(2, 3, 4, 8))
    assert (y.shape, dx.shape, dw.shape) == ((2, 3, 4, 8), (2, 3, 4, 16), (16, 8))
    assert {a.dtype for a in (y, dx, dw)} == {jnp.dtype(jnp.bfloat16)}
    flat = results(kind, x, w, dy)
    np.testing.assert_array_equal(y.reshape(24, 8), flat[0])
    np.testing.assert_array_equal(dw, flat[2])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_denormals_give_zeros(kind, dtype):
    x, w, dy = (jnp.asarray(a, dtype) for a in example())
    for tiny in (0.0, 1e-40, jnp.finfo(dtype).tiny):
        for operands in ((x * 0 + tiny, w, dy), (x, w * 0 + tiny, dy), (x, w, dy * 0 + tiny)):
            found = results(kind, *(jnp.asarray(a, dtype) for a in operands))
            assert all(np.isfinite(np.float32(a)).all() for a in found)
    assert not np.any(results(kind, x * 0, w, dy)[0])
    assert not np.any(results(kind, x, w, dy * 0)[1])


@pytest.mark.parametrize(("kind", "error"), [("fp8", 0.08), ("int8", 0.03)])
def test_an_outlier_leaves_the_rest_its_digits(kind, error):
    x, w, dy = example(T=512, I=256, O=128)
    x[3, 5], dy[7, 9] = 1e4, 1e4
    found, exact = results(kind, x, w, dy), (x @ w, dy @ w.T, x.T @ dy)
    rest = np.delete(np.arange(512), (3, 7))
    for one, other in zip((found[0][rest], found[1][rest]), (exact[0][rest], exact[1][rest]), strict=True):
        # e4m3 holds numbers 1e4 below its largest with their digits, e5m2 far more; in int8 a token is alone.
        assert np.linalg.norm(one - other) < error * np.linalg.norm(other)
    assert all(np.isfinite(a).all() for a in found)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("kind", KINDS)
def test_an_overflow_is_never_hidden(kind, bad):
    x, w, dy = example()
    dy[2, 3] = bad
    _, dx, dw = results(kind, x, w, dy)
    assert not np.isfinite(dx[2]).any()
    assert not np.isfinite(dw).all()
    x[1, 1] = bad
    assert not np.isfinite(results(kind, x, w, dy)[0][1]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_devices_share_the_work_and_sum_the_gradient_of_what_they_share(kind):
    x, w, dy = example(T=32)
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    specs = PartitionSpec("data"), PartitionSpec(None, "model")
    split = jax.shard_map(
        lambda x, w: low_precision_product(x, w, kind),
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec("data", "model"),
    )
    y, pull = jax.vjp(jax.jit(split), jnp.asarray(x), jnp.asarray(w))
    halves = [
        [expected(x[t], w[:, o], dy[t][:, o], kind) for o in (slice(0, 4), slice(4, 8))]
        for t in (slice(0, 16), slice(16, 32))
    ]
    whole = (
        np.block([[one[0] for one in row] for row in halves]),
        np.concatenate([row[0][1] + row[1][1] for row in halves]),
        np.concatenate([halves[0][o][2] + halves[1][o][2] for o in (0, 1)], axis=1),
    )
    assert_close((y, *pull(jnp.asarray(dy))), whole)


@pytest.mark.parametrize(
    ("kind", "operands"),
    [
        ("fp8", [("f8E4M3FN", "f8E4M3FN"), ("f8E4M3FN", "f8E5M2"), ("f8E5M2", "f8E4M3FN")]),
        ("int8", [("bf16", "bf16"), ("i8", "i8"), ("i8", "i8")]),
    ],
)
def test_what_is_multiplied_has_eight_bits(kind, operands):
    x, w, dy = (jnp.asarray(a, jnp.bfloat16) for a in example())
    text = jax.jit(lambda *a: results(kind, *a)).lower(x, w, dy).as_text()
    products = re.findall(r"dot_general.* : \(tensor<\d+x\d+x(\w+)>, tensor<\d+x\d+x(\w+)>\) -> (\S+)", text)
    assert sorted(found[:2] for found in products) == operands
    assert all(found[2].endswith(("xf32>", "xi32>")) for found in products)  # sums


def test_the_cpu_converts_to_the_same_numbers():
    x, w, dy = (jnp.asarray(a, jnp.bfloat16) for a in example())
    text = jax.jit(lambda *a: results("fp8", *a)).lower(x, w, dy).compile().as_text()
    assert text is not None
    assert re.search(r"= f8e4m3fn\[.*convert\(", text)
    assert re.search(r"= f8e5m2\[.*convert\(", text)
