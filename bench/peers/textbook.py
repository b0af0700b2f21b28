"""The trainer that a JAX textbook would write: all scores, all logits, layers scanned, state donated.

    x + attention(norm(x)),  x + mlp(norm(x));  RMSNorm, RoPE, tanh GELU, untied head;  clip, AdamW by optax

Everything by autodiff. It computes what our step computes, from its own weights.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bench.shapes import CLIP, DECAY, HEAD_DIM, LEARNING_RATE, Shape, tokens_of


def init(shape: Shape, key: jax.Array) -> dict[str, Any]:
    """float32 weights, layers stacked in front."""
    V, H, L, N, M = shape.vocab, shape.hidden, shape.layers, shape.heads, shape.mlp
    sizes = {
        "q": (L, H, N, HEAD_DIM),
        "k": (L, H, N, HEAD_DIM),
        "v": (L, H, N, HEAD_DIM),
        "o": (L, N, HEAD_DIM, H),
        "up": (L, H, M),
        "down": (L, M, H),
    }
    keys = iter(jax.random.split(key, 8))
    layers = {name: 0.02 * jax.random.normal(next(keys), size) for name, size in sizes.items()}
    layers |= {"norm1": jnp.ones((L, H)), "norm2": jnp.ones((L, H))}
    tables = {name: 0.02 * jax.random.normal(next(keys), (V, H)) for name in ("embedding", "head")}
    return {**tables, "layers": layers, "norm": jnp.ones(H)}


def norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """RMSNorm."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def rope(x: jax.Array) -> jax.Array:
    """Rotates [B, T, N, D] by position."""
    half = HEAD_DIM // 2
    angles = jnp.arange(x.shape[1])[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    x1, x2 = x[..., :half], x[..., half:]
    return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


def layer(x: jax.Array, w: dict[str, jax.Array]) -> tuple[jax.Array, None]:
    """One block."""
    h = norm(x, w["norm1"])
    q, k, v = (jnp.einsum("bth,hnd->btnd", h, w[name]) for name in "qkv")
    scores = jnp.einsum("btnd,bsnd->bnts", rope(q), rope(k)) * HEAD_DIM**-0.5
    T = x.shape[1]
    scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -1e30)
    mixed = jnp.einsum("bnts,bsnd->btnd", jax.nn.softmax(scores, axis=-1), v)
    x = x + jnp.einsum("btnd,ndh->bth", mixed, w["o"])
    return x + jax.nn.gelu(norm(x, w["norm2"]) @ w["up"]) @ w["down"], None


def loss(params: dict[str, Any], tokens: jax.Array) -> jax.Array:
    """Mean cross-entropy of [B, T + 1] tokens."""
    x, _ = jax.lax.scan(layer, params["embedding"][tokens[:, :-1]], params["layers"])
    logits = jnp.einsum("bth,vh->btv", norm(x, params["norm"]), params["head"])
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


def make(shape: Shape) -> tuple[Any, Callable[[Any], Any], Any]:
    """(state, compiled step: state -> (state, loss), the compiled program)."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP), optax.adamw(LEARNING_RATE, b1=0.9, b2=0.95, weight_decay=DECAY)
    )

    def step(params: Any, opt_state: Any, tokens: jax.Array) -> tuple[Any, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(params, tokens)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    params = init(shape, jax.random.key(0))
    tokens = jnp.asarray(tokens_of(shape))
    state = (params, optimizer.init(params))
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*state, tokens).compile()

    def run(state: Any) -> tuple[Any, jax.Array]:
        *new, value = compiled(*state, tokens)
        return tuple(new), value

    return state, run, compiled
