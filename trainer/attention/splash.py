"""JAX's splash attention kernel behind the signature of our own (`flash`): what runs where ours does not.

It wants q scaled, and (batch, heads, seq, D) for (batch, seq, heads * D), so every array is laid out anew around it;
and it lets padding see padding, so what it gives there is set to 0. Its kernels do not say along which mesh axes their
results vary. They run where JAX does not ask, in a shard_map of their own without check_vma, forward and backward
apart, so that no gradient crosses its border; outside, the results are declared to vary as q does.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jax.sharding import PartitionSpec
from jax.typing import DTypeLike

from trainer.attention.pattern import Pattern
from trainer.attention.rotary import Tables, rotate
from trainer.varying import vary_like, varying_axes

LANES = 128
BLOCK = 512
"""Queries and keys to a tile: 1024 costs as much on v5e and 2048 does not fit."""


def supports(pattern: Pattern, seq: int, dtype: DTypeLike, generation: str) -> str | None:
    """Why the kernel cannot run; None when it can. Arguments as for `trainer.attention.flash.supports`."""
    if generation == "v3":
        return "Pallas TPU kernels do not compile for v3"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float32):
        return f"q, k and v are {jnp.dtype(dtype).name}; the kernel takes bfloat16 and float32"
    if pattern.dropout_rate > 0:
        return "the kernel does not drop attention weights"
    if seq % LANES:
        return f"a sequence of {seq} tokens is not a multiple of {LANES}"
    return None


def splash_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: jax.Array,
    tables: Tables | None,
    pattern: Pattern,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Attention by the pattern in JAX's splash kernels; see `supports` for what they take.

    Args:
        q: [B, T, N*D] queries as the projection leaves them.
        k: [B, T, K*D] keys.
        v: [B, T, K*D] values.
        segments: int [B, T] document numbers; 0 is padding, whose output is 0.
        tables: cos and sin, float32 [T, D/2], by which q and k are turned; None turns nothing.
        pattern: who sees whom.
        interpret: run the kernels as plain XLA, off the TPU.

    Returns:
        [B, T, N*D] in q's dtype.
    """
    if tables is not None:
        q, k = (rotate(x, tables, pattern.head_dim) for x in (q, k))
    q = (q.astype(jnp.float32) * pattern.scale).astype(q.dtype)
    heads = (_by_head(x, pattern.head_dim) for x in (q, k, v))
    out = _attend(*heads, segments, pattern, interpret)
    flat = out.transpose(0, 2, 1, 3).reshape(q.shape)
    return jnp.where(segments[..., None] != 0, flat, jnp.zeros_like(flat))


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, pattern: Pattern, interpret: bool
) -> jax.Array:
    """[B, N, T, D] from q [B, N, T, D], k and v [B, K, T, D]."""
    kernel = _kernel(q.shape[2], pattern, interpret, within_mesh=bool(varying_axes(q)))
    return _unchecked(kernel, q, k, v, segments)


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, pattern: Pattern, interpret: bool
) -> tuple[jax.Array, Any]:
    kernel = _kernel(q.shape[2], pattern, interpret, within_mesh=bool(varying_axes(q)))
    return _unchecked(lambda q, k, v, s: jax.vjp(lambda *x: kernel(*x, s), q, k, v), q, k, v, segments)


def _backward(
    pattern: Pattern, interpret: bool, pull: Any, d_out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    return *_unchecked(lambda d_out, pull: pull(d_out), d_out, pull), None


_attend.defvjp(_forward, _backward)


def _kernel(seq: int, pattern: Pattern, interpret: bool, within_mesh: bool) -> Callable[..., jax.Array]:
    """The kernel for [B, heads, T, D] and segments [B, T]."""
    window = seq if pattern.window is None else pattern.window
    mask = splash.LocalMask((seq, seq), (window - 1, 0), 0) if window < seq else splash.CausalMask((seq, seq))
    block = next(size for size in range(min(BLOCK, seq), 0, -LANES) if seq % size == 0)
    kernel = splash.make_splash_mha(
        mask=splash.MultiHeadMask([mask] * pattern.heads),
        head_shards=1,
        q_seq_shards=1,
        block_sizes=splash.BlockSizes(
            block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, block_q_dq=block, block_kv_dq=block
        ),
        attn_logits_soft_cap=pattern.softcap,
        # Within a mesh only the simulated TPU runs: plain interpretation checks what varies.
        interpret=pltpu.InterpretParams() if interpret and within_mesh else interpret,  # type: ignore[arg-type]
    )
    return jax.vmap(lambda q, k, v, s: kernel(q, k, v, splash.SegmentIds(s, s)))


def _unchecked(f: Callable[..., Any], x: jax.Array, *rest: Any) -> Any:
    """f(x, *rest) without JAX's account of what varies along which mesh axes; results vary as x does."""
    if not varying_axes(x):
        return f(x, *rest)

    def on_results(*arguments: Any) -> Any:
        # Arguments still carry what they vary along, results of operations do not. XLA drops a product with 1.
        return f(*jax.tree.map(lambda y: y * jnp.ones((), y.dtype), arguments))

    bare = jax.shard_map(on_results, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)
    return jax.tree.map(lambda y: vary_like(y, x), bare(x, *rest))


def _by_head(x: jax.Array, head_dim: int) -> jax.Array:
    """[B, T, heads * D] -> [B, heads, T, D]."""
    return x.reshape(*x.shape[:2], -1, head_dim).transpose(0, 2, 1, 3)
