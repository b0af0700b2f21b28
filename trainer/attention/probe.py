"""Does an attention kernel compute attention on the device at hand? Asked once, when a trainer starts.

The Pallas kernels were written where no TPU was at hand. So before the first step the job's kernel runs on the real
device on a small input of the job's own pattern, two tiles long, with two documents and some padding, and its output
and gradients are compared with those of plain XLA in float32. What disagrees, or does not compile, is not used.

The error of an array is its largest deviation over the reference's largest entry. In bfloat16 each operand, probability
and result is rounded by up to 2^-9 of itself, and a gradient is a product of up to six such: 2^-5 is well above their
sum. In float32 the TPU's products at full precision keep 2^-20 or so, and its exponentials and tanh less: 2^-10. A
wrong mask, scale or head is an error of order 1.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from trainer.attention.dense import dense_attention
from trainer.attention.pattern import Pattern
from trainer.attention.rotary import Tables, rotate

Kernel = Literal["flash", "splash"]
Arrays = tuple[jax.Array, ...]
_TWO_TILES = 2048
"""Tokens of two of the larger tiles of the kernels."""
TOLERANCE = {jnp.dtype(jnp.bfloat16): 2.0**-5, jnp.dtype(jnp.float32): 2.0**-10}
"""Largest error that a kernel which agrees can have, relative to the largest entry."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the probe found."""

    agrees: bool
    why: str
    """The largest error, or what went wrong, in one line."""
    seconds: float


def probe(kind: Kernel, pattern: Pattern, seq: int, dtype: DTypeLike, *, interpret: bool = False) -> Verdict:
    """Runs a kernel and plain XLA on the same small input, forward and backward, and compares.

    Args:
        kind: which kernel.
        pattern: the job's, for the heads of one device.
        seq: the job's window, of which the input has 2048 tokens at most.
        dtype: of q, k and v: bfloat16 or float32.
        interpret: run the kernel as plain XLA, off the TPU.
    """
    started = time.monotonic()
    try:
        agrees, why = _compare(kind, pattern, min(seq, _TWO_TILES), jnp.dtype(dtype), interpret)
    except Exception as error:  # whatever a compiler may raise, it only means that this kernel is not the one to use
        first_line = (str(error).splitlines() or [""])[0]
        agrees, why = False, f"{kind} attention does not run here: {type(error).__name__}: {first_line}"
    return Verdict(agrees, why, time.monotonic() - started)


def _compare(kind: Kernel, pattern: Pattern, seq: int, dtype: np.dtype, interpret: bool) -> tuple[bool, str]:
    pattern = _few_heads(pattern)
    (q, k, v, d_out), segments, tables = _example(pattern, seq, dtype)
    attend = _kernel(kind)
    got = _with_gradients(lambda *x: attend(*x, segments, tables, pattern, interpret=interpret), (q, k, v), d_out)
    with jax.default_matmul_precision("highest"):
        expected = _with_gradients(
            lambda q, k, v: _plain(q, k, v, segments, tables, pattern),
            tuple(x.astype(jnp.float32) for x in (q, k, v)),
            d_out,
        )
    errors = dict(
        zip(("output", "gradient of q", "gradient of k", "gradient of v"), map(_error, got, expected), strict=True)
    )
    worst = max(errors, key=lambda name: errors[name] if np.isfinite(errors[name]) else np.inf)
    agrees = all(error <= TOLERANCE[dtype] for error in errors.values())
    relation = "at most" if agrees else "more than"
    return (
        agrees,
        f"the {worst} differs from plain XLA by {errors[worst]:.2g}, {relation} the {TOLERANCE[dtype]:.2g} allowed",
    )


def _kernel(kind: Kernel) -> Callable[..., jax.Array]:
    # Imported when asked for: Pallas is needed on TPUs alone.
    if kind == "flash":
        from trainer.attention.flash import flash_attention

        return flash_attention
    from trainer.attention.splash import splash_attention

    return splash_attention


def _few_heads(pattern: Pattern) -> Pattern:
    """The pattern with two key heads, or three where their number is odd: all ways in which heads share registers."""
    kv_heads = pattern.kv_heads if pattern.kv_heads <= 3 else 2 + pattern.kv_heads % 2
    return replace(pattern, heads=kv_heads * pattern.group, kv_heads=kv_heads, dropout_rate=0.0)


def _example(pattern: Pattern, seq: int, dtype: np.dtype) -> tuple[Arrays, jax.Array, Tables]:
    """q, k, v and the output's gradient, segments of two documents and some padding, and rotary tables."""
    random, D = np.random.default_rng(0), pattern.head_dim
    widths = [count * D for count in (pattern.heads, pattern.kv_heads, pattern.kv_heads, pattern.heads)]
    arrays = tuple(jnp.asarray(random.normal(size=(1, seq, width)), dtype) for width in widths)
    index = np.arange(seq)
    segments = np.where(index < seq // 3, 1, np.where(index < seq - seq // 16, 2, 0))
    angles = index[:, None] * 10000.0 ** (-np.arange(D // 2) / (D // 2))
    return arrays, jnp.asarray(segments[None], jnp.int32), (jnp.cos(angles), jnp.sin(angles))


def _plain(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, tables: Tables, pattern: Pattern
) -> jax.Array:
    q, k = (rotate(x, tables, pattern.head_dim) for x in (q, k))
    return dense_attention(q, k, v, segments, segments, 0, jnp.arange(1), None, pattern)


def _with_gradients(attend: Callable[..., jax.Array], inputs: Arrays, d_out: jax.Array) -> Arrays:
    @jax.jit
    def run(inputs: Arrays, d_out: jax.Array) -> Arrays:
        out, pull = jax.vjp(attend, *inputs)
        return out, *pull(d_out.astype(out.dtype))

    return run(inputs, d_out)


def _error(got: jax.Array, expected: jax.Array) -> float:
    exact = np.asarray(expected, np.float64)
    return float(np.max(np.abs(np.asarray(got, np.float64) - exact)) / np.max(np.abs(exact)))
