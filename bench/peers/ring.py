"""Ring attention (Liu et al. 2023): keys and values go round the devices that split a window, block by block.

Causal, float32 or bfloat16, one document. Each device keeps its queries and meets every block of keys in turn; blocks
that it may not see cost it nothing but the wait. Differentiated by autodiff, every turn computed again in the
backward pass, which sends the blocks round once more, and their gradients with them.
"""

from functools import partial

import jax
import jax.numpy as jnp


def ring_attention(q: jax.Array, k: jax.Array, v: jax.Array, heads: int) -> jax.Array:
    """[B, T, H] of this device, inside shard_map over the axis `sequence`; q, k, v [B, T, H]."""
    B, T, H = q.shape
    devices, own = jax.lax.axis_size("sequence"), jax.lax.axis_index("sequence")
    queries, keys, values = (x.reshape(B, T, heads, H // heads).swapaxes(1, 2) for x in (q, k, v))

    @partial(jax.checkpoint, prevent_cse=False)
    def meet(out, highest, total, keys, values, source):  # type: ignore[no-untyped-def]
        scores = jnp.einsum("bntd,bnsd->bnts", queries, keys, preferred_element_type=jnp.float32)
        ahead = (own * T + jnp.arange(T))[:, None] >= source * T + jnp.arange(T)
        scores = jnp.where(ahead, scores * (H // heads) ** -0.5, -1e30)
        new = jnp.maximum(highest, scores.max(-1))
        p, old = jnp.exp(scores - new[..., None]), jnp.exp(highest - new)
        mixed = jnp.einsum("bnts,bnsd->bntd", p.astype(values.dtype), values, preferred_element_type=jnp.float32)
        return out * old[..., None] + mixed, new, total * old + p.sum(-1)

    def turn(carry, step):  # type: ignore[no-untyped-def]
        state, keys, values = carry
        source = (own - step) % devices
        state = jax.lax.cond(source <= own, lambda: meet(*state, keys, values, source), lambda: state)
        onward = [(i, (i + 1) % devices) for i in range(devices)]
        keys, values = (jax.lax.ppermute(x, "sequence", onward) for x in (keys, values))
        return (state, keys, values), None

    start = (
        jnp.zeros(queries.shape, jnp.float32),
        jnp.full(queries.shape[:-1], -1e30, jnp.float32),
        jnp.zeros(queries.shape[:-1], jnp.float32),
    )
    start = jax.tree.map(lambda x: jax.lax.pcast(x, ("sequence",), to="varying"), start)
    ((out, _, total), *_), _ = jax.lax.scan(turn, (start, keys, values), jnp.arange(devices))
    return (out / total[..., None]).swapaxes(1, 2).reshape(B, T, H).astype(q.dtype)
