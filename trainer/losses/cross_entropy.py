"""Token-weighted cross-entropy from hidden states, without ever holding all logits.

    loss = sum_t w_t (log sum_v exp(h_t . e_v) - h_t . e_{y_t}),    h [B, T, H], e [V, H]

Logits of a whole batch, [B, T, V], are usually the largest array of a step. Here a scan visits the sequence in chunks
of positions, each chunk's logits are made in float32, and the backward pass makes them again (jax.checkpoint).

Chunk j of n holds positions j, j + n, j + 2n, ...: when the sequence is split over devices, each of them has work in
every chunk and no hidden state moves.
"""

import jax
import jax.numpy as jnp


def cross_entropy(
    hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array, *, chunk_tokens: int
) -> tuple[jax.Array, jax.Array]:
    """Sum of weighted losses in nats, and sum of weights; their quotient is the mean loss.

    Args:
        hidden: [B, T, H] final hidden states.
        table: [V, H] output embeddings, in hidden's dtype.
        targets: [B, T] int token ids.
        weights: [B, T] float32, 0 where the target does not count.
        chunk_tokens: tokens whose logits exist at one time, over all devices.
    """
    B, T, _ = hidden.shape
    chunks = min(T, -(-B * T // max(chunk_tokens, 1)))
    length = -(-T // chunks)

    def cut(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, 0), (0, length * chunks - T)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(B, length, chunks, *x.shape[2:]), 2, 0)

    @jax.checkpoint
    def chunk_loss(h: jax.Array, y: jax.Array, w: jax.Array) -> jax.Array:
        logits = jnp.einsum("bth,vh->btv", h, table, preferred_element_type=jnp.float32)
        # Comparing beats gathering: it stays local when the vocabulary is split over devices.
        is_target = y[..., None] == jnp.arange(table.shape[0])
        target_logit = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
        return jnp.sum(w * (jax.nn.logsumexp(logits, axis=-1) - target_logit))

    def add_chunk(total: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        return total + chunk_loss(*chunk), None

    total, _ = jax.lax.scan(add_chunk, jnp.zeros((), jnp.float32), (cut(hidden), cut(targets), cut(weights)))
    return total, jnp.sum(weights)
