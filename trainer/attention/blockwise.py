"""Attention over blocks of keys with an online softmax: memory T x block instead of T x T.

Forward, for each block j of keys (Milakov and Gimelshein 2018; Rabe and Staats 2021; Dao et al. 2022):

    s = q k_j^T / sqrt(D)          m' = max(m, max_s s)        p = exp(s - m')
    l <- l exp(m - m') + sum_s p   o <- o exp(m - m') + p v_j  m <- m'

and finally o / l. Only o and the row's log-sum-exp, L = m + log l, are kept. Backward recomputes p = exp(s - L) block
by block; with delta = sum_d o do:

    dv_j = p^T do    ds = p (do v_j^T - delta) / sqrt(D)    dq += ds k_j    dk_j = ds^T q

Shapes: q [B, K, G, T, D] (K key heads, G query heads to each), k_j, v_j [B, block, K, D], s and p [B, K, G, T, block].
The last block is padded with keys of segment 0, which nobody sees. A row that sees nothing has l = 0 and gives 0.
"""

from functools import partial

import jax
import jax.numpy as jnp

from trainer.attention.dense import MASKED, visible

Blocks = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
"""Scanned over the blocks of keys: k, v [n, B, block, K, D], segments [n, B, block], key index [n, block]."""

Running = tuple[jax.Array, jax.Array, jax.Array]
"""o [B, K, G, T, D], m and l [B, K, G, T]."""


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def blockwise_attention(q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, block: int) -> jax.Array:
    """See `trainer.attention.attention`; memory grows with T times block."""
    return _forward(q, k, v, segments, block)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array, block: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    queries = _group(q, k.shape[2])
    *rows, _ = queries.shape

    def one_block(carry: Running, keys: Blocks) -> tuple[Running, None]:
        out, highest, total = carry
        scores, mask = _scores(queries, segments, keys)
        new_highest = jnp.maximum(highest, scores.max(-1))
        rescale = jnp.exp(highest - new_highest)
        p = jnp.where(mask, jnp.exp(scores - new_highest[..., None]), 0.0)
        values = jnp.einsum("bkgts,bskd->bkgtd", p.astype(v.dtype), keys[1], preferred_element_type=jnp.float32)
        return (out * rescale[..., None] + values, new_highest, total * rescale + p.sum(-1)), None

    start = (jnp.zeros(queries.shape, jnp.float32), jnp.full(rows, MASKED), jnp.zeros(rows))
    (out, highest, total), _ = jax.lax.scan(one_block, start, _blocks(k, v, segments, block))
    sees = total > 0
    total = jnp.where(sees, total, 1.0)
    log_sum = highest + jnp.log(total)
    result = _ungroup(out / total[..., None]).astype(q.dtype)
    return result, (q, k, v, segments, result, log_sum)


def _backward(
    block: int, kept: tuple[jax.Array, ...], d_result: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, segments, result, log_sum = kept
    B, T, K, D = k.shape
    queries, d_out = _group(q, K), _group(d_result, K)
    delta = jnp.sum(_group(result, K).astype(jnp.float32) * d_out.astype(jnp.float32), axis=-1)

    def one_block(d_queries: jax.Array, keys: Blocks) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        key, value = keys[:2]
        scores, mask = _scores(queries, segments, keys)
        p = jnp.where(mask, jnp.exp(scores - log_sum[..., None]), 0.0)
        d_value = jnp.einsum("bkgts,bkgtd->bskd", p.astype(v.dtype), d_out)
        dp = jnp.einsum("bkgtd,bskd->bkgts", d_out, value, preferred_element_type=jnp.float32)
        ds = (p * (dp - delta[..., None]) * D**-0.5).astype(q.dtype)
        d_queries += jnp.einsum("bkgts,bskd->bkgtd", ds, key, preferred_element_type=jnp.float32)
        return d_queries, (jnp.einsum("bkgts,bkgtd->bskd", ds, queries), d_value)

    start = jnp.zeros(queries.shape, jnp.float32)
    dq, (dk, dv) = jax.lax.scan(one_block, start, _blocks(k, v, segments, block))
    dk, dv = (jnp.moveaxis(d, 0, 1).reshape(B, -1, K, D)[:, :T] for d in (dk, dv))
    return _ungroup(dq).astype(q.dtype), dk, dv, None


blockwise_attention.defvjp(_forward, _backward)


def _scores(queries: jax.Array, segments: jax.Array, keys: Blocks) -> tuple[jax.Array, jax.Array]:
    """float32 scores [B, K, G, T, block], masked, and the mask [B, 1, 1, T, block]."""
    key, _, key_segments, key_index = keys
    T, D = queries.shape[-2:]
    mask = visible(segments, key_segments, jnp.arange(T), key_index)[:, None, None]
    scores = jnp.einsum("bkgtd,bskd->bkgts", queries, key, preferred_element_type=jnp.float32) * D**-0.5
    return jnp.where(mask, scores, MASKED), mask


def _blocks(k: jax.Array, v: jax.Array, segments: jax.Array, block: int) -> Blocks:
    """Keys, values, segments and indices cut along the sequence; the block axis comes first."""
    T = k.shape[1]
    block = min(block, T)
    count = -(-T // block)

    def cut(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (0, count * block - T)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(x.shape[0], count, block, *x.shape[2:]), 1, 0)

    return cut(k), cut(v), cut(segments), jnp.arange(count * block).reshape(count, block)


def _group(x: jax.Array, K: int) -> jax.Array:
    """[B, T, H, D] -> [B, K, H // K, T, D]."""
    B, T, H, D = x.shape
    return x.reshape(B, T, K, H // K, D).transpose(0, 2, 3, 1, 4)


def _ungroup(x: jax.Array) -> jax.Array:
    """[B, K, G, T, D] -> [B, T, K * G, D]."""
    B, K, G, T, D = x.shape
    return x.transpose(0, 3, 1, 2, 4).reshape(B, T, K * G, D)
