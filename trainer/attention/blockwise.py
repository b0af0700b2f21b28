"""Attention over blocks of queries and keys with an online softmax: memory grows with the sequence, not its square.

Forward, for query block i and each key block j that it can see (Milakov and Gimelshein 2018; Dao et al. 2022):

    s = scale q_i k_j^T            m' = max(m, max_j s)        p = exp(s - m')
    l <- l exp(m - m') + sum_j p   o <- o exp(m - m') + p v_j  m <- m'

and finally o / l. Kept for the backward pass: o and L = m + log l. There, with delta = sum_d o do and scores
transposed, so that no product needs a transposed left operand (which XLA:CPU multiplies at half the rate):

    p^T = exp(s^T - L)   dv_j += p^T do_i   ds^T = p^T (v_j do_i^T - delta)   dk_j += ds^T q_i   dq_i^T += k_j^T ds^T

A soft-cap c makes s into c tanh(s / c) and multiplies ds by its slope; dropout multiplies p where it meets v and do.
Loops over j run from the first to the last block with a key that some row of block i may see (cuts.py).

Shapes: a query block is [B, K, G, t, D] (K key heads, G query heads to each), a key block [B, K, s, D], scores
[B, K, G, t, s] forward and [B, K, s, G, t] backward. A row that sees nothing has l = 0 and gives 0.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from trainer.attention.cuts import Cut, cut_keys, cut_queries, cut_segments, join_keys, join_queries, key_blocks_seen
from trainer.attention.pattern import Pattern
from trainer.attention.visible import MASKED, visible
from trainer.hashing import keep_mask
from trainer.varying import cotangent_of, vary_like


@partial(jax.custom_vjp, nondiff_argnums=(8, 9))
def blockwise_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    query_segments: jax.Array,
    key_segments: jax.Array,
    offset: int | jax.Array,
    rows: jax.Array,
    key: jax.Array | None,
    pattern: Pattern,
    block: int,
) -> jax.Array:
    """Attention of T queries, at places offset ... offset + T - 1 of the window, to the window's S keys.

    Works on what one device holds, inside or outside of `jax.shard_map`. Under a checkpoint policy that saves the
    names "attention_out" and "attention_lse" the backward pass does not run the forward pass again.

    Args:
        q: [B, T, N * D] queries, already rotated.
        k: [B, S, K * D] keys; query head n uses key head n // (N // K).
        v: [B, S, K * D] values.
        query_segments: int [B, T] document numbers; 0 is padding, whose output is 0.
        key_segments: int [B, S] document numbers.
        offset: place of the first query; may be traced (T < S when devices split the sequence).
        rows: int [B] the number of each sequence's first head here, which tells heads and sequences apart to dropout:
            sequence times all heads, plus the heads on the devices before this one.
        key: uint32 words that choose what dropout drops, or None for no dropout.
        pattern: heads, scale, window, soft-cap, dropout rate.
        block: queries, and keys, of one tile; need not divide T or S.

    Returns:
        [B, T, N * D] in q's dtype; scores and sums are float32.
    """
    return _forward(q, k, v, query_segments, key_segments, offset, rows, key, pattern, block)[0]


class _Masks(NamedTuple):
    """What decides, apart from the scores, which weights a tile has."""

    queries: Cut
    keys: Cut
    rows: jax.Array
    key: jax.Array | None
    pattern: Pattern

    def seen(self, queries: Cut, j: jax.Array) -> jax.Array:
        """[B, t, s] bool: query of the block sees key of block j."""
        return visible(queries.segments, self.keys.segments[j], queries.places, self.keys.places[j], self.pattern)

    def drop(self, p: jax.Array, queries: Cut, j: jax.Array, *, across: bool) -> jax.Array:
        """The weights after dropout; `across` when p's axes are [B, K, s, G, t] and not [B, K, G, t, s]."""
        pattern = self.pattern
        if self.key is None or pattern.dropout_rate == 0:
            return p
        first, head = self.rows.reshape(-1, 1, 1, 1, 1), jnp.arange(pattern.heads).reshape(-1, pattern.group)
        query, key = queries.places, self.keys.places[j]
        places = (first + head[:, None, :, None], query, key[:, None, None])
        if not across:
            places = (first + head[:, :, None, None], query[:, None], key)
        kept = keep_mask(self.key, places, pattern.dropout_rate)
        return jnp.where(kept, p / (1 - pattern.dropout_rate), 0.0)


def _forward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    query_segments: jax.Array,
    key_segments: jax.Array,
    offset: int | jax.Array,
    rows: jax.Array,
    key: jax.Array | None,
    pattern: Pattern,
    block: int,
) -> tuple[jax.Array, tuple[Any, ...]]:
    inputs = (q, k, v, query_segments, key_segments, offset, rows, key)
    masks = _masks(inputs, pattern, block)
    keys, values = (cut_keys(x, pattern, masks.keys) for x in (k, v))
    varying = tuple(x for x in inputs if isinstance(x, jax.Array))

    def attend(part: tuple[jax.Array, Cut, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        queries, cut, first, last = part

        def add_keys(j: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            out, highest, total = carry
            scores = _capped(_product("bkgtd,bksd->bkgts", queries, keys[j]) * pattern.scale, pattern)
            scores = jnp.where(masks.seen(cut, j)[:, None, None], scores, MASKED)
            new_highest = jnp.maximum(highest, scores.max(-1))
            # While a row has seen nothing, all its scores are MASKED, and so that p is 0 the maximum counts as 0.
            p = jnp.exp(scores - _or_zero(new_highest)[..., None])
            rescale = jnp.exp(highest - new_highest)
            total = total * rescale + p.sum(-1)
            p = masks.drop(p, cut, j, across=False).astype(v.dtype)
            return out * rescale[..., None] + _product("bkgts,bksd->bkgtd", p, values[j]), new_highest, total

        shape = queries.shape
        nothing = (jnp.zeros(shape, jnp.float32), jnp.full(shape[:-1], MASKED), jnp.zeros(shape[:-1]))
        start = tuple(vary_like(x, *varying) for x in nothing)
        out, highest, total = jax.lax.fori_loop(first, last, add_keys, start)
        total = jnp.where(total > 0, total, 1.0)
        return (out / total[..., None]).astype(q.dtype), _or_zero(highest) + jnp.log(total)

    bounds = key_blocks_seen(masks.queries, masks.keys, pattern)
    out, log_sum = jax.lax.map(attend, (cut_queries(q, pattern, masks.queries), masks.queries, *bounds))
    out = checkpoint_name(join_queries(out, q.shape[1]), "attention_out")
    return out, (*inputs, out, checkpoint_name(log_sum, "attention_lse"))


def _backward(pattern: Pattern, block: int, kept: tuple[Any, ...], d_result: jax.Array) -> tuple[Any, ...]:
    *inputs, result, log_sum = kept
    q, k, v = inputs[:3]
    masks = _masks(inputs, pattern, block)
    keys, values = (cut_keys(x, pattern, masks.keys) for x in (k, v))
    keys_across = keys.swapaxes(-1, -2)
    queries, results, d_results = (cut_queries(x, pattern, masks.queries) for x in (q, result, d_result))
    delta = jnp.sum(results.astype(jnp.float32) * d_results.astype(jnp.float32), axis=-1)

    def attend(sums: tuple[jax.Array, ...], part: tuple[Any, ...]) -> tuple[tuple[jax.Array, ...], jax.Array]:
        queries, d_out, log_sum, delta, cut, first, last = part

        def add_keys(j: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            dq, dk, dv = carry
            scores = _capped(_product("bksd,bkgtd->bksgt", keys[j], queries) * pattern.scale, pattern)
            seen = masks.seen(cut, j).swapaxes(-1, -2)[:, None, :, None]
            p = jnp.exp(jnp.where(seen, scores, MASKED) - log_sum[:, :, None])
            dp = masks.drop(_product("bksd,bkgtd->bksgt", values[j], d_out), cut, j, across=True)
            ds = (p * (dp - delta[:, :, None]) * _slope(scores, pattern)).astype(q.dtype)
            p = masks.drop(p, cut, j, across=True).astype(v.dtype)
            dv = _add_at(dv, j, _product("bksgt,bkgtd->bksd", p, d_out))
            dk = _add_at(dk, j, _product("bksgt,bkgtd->bksd", ds, queries))
            return dq + _product("bkds,bksgt->bkdgt", keys_across[j], ds), dk, dv

        B, K, G, t, D = queries.shape
        dq, dk, dv = jax.lax.fori_loop(first, last, add_keys, (vary_like(jnp.zeros((B, K, D, G, t)), *sums), *sums))
        return (dk, dv), (dq.transpose(0, 1, 3, 4, 2) * pattern.scale).astype(q.dtype)

    varying = tuple(x for x in (*inputs, d_result) if isinstance(x, jax.Array))
    nothing = tuple(vary_like(jnp.zeros(x.shape, jnp.float32), *varying) for x in (keys, values))
    bounds = key_blocks_seen(masks.queries, masks.keys, pattern)
    (dk, dv), dq = jax.lax.scan(attend, nothing, (queries, d_results, log_sum, delta, masks.queries, *bounds))
    gradients = join_queries(dq, q.shape[1]), join_keys(dk * pattern.scale, k.shape[1]), join_keys(dv, v.shape[1])
    return *map(cotangent_of, (q, k, v), gradients), *[None] * 5


blockwise_attention.defvjp(_forward, _backward)


def _masks(inputs: Any, pattern: Pattern, block: int) -> _Masks:
    _, _, _, query_segments, key_segments, offset, rows, key = inputs
    return _Masks(cut_segments(query_segments, block, offset), cut_segments(key_segments, block, 0), rows, key, pattern)


def _product(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


def _capped(scores: jax.Array, pattern: Pattern) -> jax.Array:
    return scores if pattern.softcap is None else pattern.softcap * jnp.tanh(scores / pattern.softcap)


def _slope(capped: jax.Array, pattern: Pattern) -> jax.Array | float:
    """Derivative of `_capped`, from its value."""
    return 1.0 if pattern.softcap is None else 1.0 - jnp.square(capped / pattern.softcap)


def _or_zero(highest: jax.Array) -> jax.Array:
    return jnp.where(highest > MASKED, highest, 0.0)


def _add_at(sums: jax.Array, j: jax.Array, term: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(sums, sums[j] + term, j, 0)
