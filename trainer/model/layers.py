"""The parts of a block: RMSNorm, attention, MLP, and how they join the residual stream.

    x <- x + dropout(post(attention(norm(x))))      x <- x + dropout(post(mlp(norm(x))))       x [B, T, H]

    norm(x) = w * x / sqrt(mean(x^2) + eps), statistics in float32; with norm_offset 1 + w stands for w
    post = another norm with post_norms (Gemma 2), else the identity
    mlp(x) = act(x W_up) W_down, or gated: (act(x W_gate) * x W_up) W_down
    act: gelu (tanh form), gelu_exact (erf), geglu, geglu_exact (gates of these), swiglu (silu gate)

Weights are float32 and come here in the computation's dtype. Projections start with variance 1/fan_in; those that end
in the residual stream are scaled down by 1/sqrt(2 layers) more, so that the stream's variance does not grow with depth
(Radford et al. 2019). A model axis splits heads and MLP: what a device makes of its share is summed over that axis
where it joins the stream (Shoeybi et al. 2019).

A block is made with the weights of all L layers stacked, hence the leading L in each shape; a layer runs as the block
with its own slice of them (decoder.py).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from trainer.attention.attend import attend
from trainer.attention.pattern import Pattern
from trainer.collectives import add_over
from trainer.hashing import keep_mask
from trainer.linear import linear
from trainer.model.computation import Computation, Tokens
from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import LayerKind

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=True),
    "gelu_exact": partial(jax.nn.gelu, approximate=False),
    "geglu": partial(jax.nn.gelu, approximate=True),
    "geglu_exact": partial(jax.nn.gelu, approximate=False),
    "swiglu": jax.nn.silu,
}


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], std: float) -> nnx.Param[jax.Array]:
    """A float32 weight drawn from N(0, std^2), with a logical name for each axis."""
    return nnx.Param(std * jax.random.normal(rngs.params(), shape), out_sharding=axes, eager_sharding=False)


def constant(value: float, shape: tuple[int, ...], axes: tuple[str, ...]) -> nnx.Param[jax.Array]:
    """A float32 weight that starts the same everywhere."""
    return nnx.Param(jnp.full(shape, value, jnp.float32), out_sharding=axes, eager_sharding=False)


class RMSNorm(nnx.Module):
    """Scales every token's features to unit mean square, then by a learned factor per feature."""

    def __init__(self, config: ModelSection, *shape: int) -> None:
        """`shape` ends in the features, after the layers if there are several."""
        self.scale = constant(0.0 if config.norm_offset else 1.0, shape, ("layers", "norm")[-len(shape) :])
        self.epsilon, self.offset = config.norm_epsilon, config.norm_offset

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., features], in x's dtype."""
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
        scale = self.scale[...].astype(jnp.float32) + (1.0 if self.offset else 0.0)
        return (x32 * jax.lax.rsqrt(mean_square + self.epsilon) * scale).astype(x.dtype)


class Attention(nnx.Module):
    """Causal attention within documents; num_heads queries share kv_heads keys and values."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        L, H, D = config.num_layers, config.hidden_dim, config.head_dim
        N, K = config.num_heads * D, config.kv_heads * D
        self.config = config
        self.query = normal(rngs, (L, H, N), ("layers", "embed", "heads"), H**-0.5)
        self.key = normal(rngs, (L, H, K), ("layers", "embed", "kv_heads"), H**-0.5)
        self.value = normal(rngs, (L, H, K), ("layers", "embed", "kv_heads"), H**-0.5)
        self.out = normal(rngs, (L, N, H), ("layers", "heads", "embed"), (2 * L * N) ** -0.5)
        bias = config.qkv_bias
        self.query_bias = constant(0.0, (L, N), ("layers", "heads_bias")) if bias else None
        self.key_bias = constant(0.0, (L, K), ("layers", "kv_heads_bias")) if bias else None
        self.value_bias = constant(0.0, (L, K), ("layers", "kv_heads_bias")) if bias else None
        self.query_norm = RMSNorm(config, L, D) if config.qk_norm else None
        self.key_norm = RMSNorm(config, L, D) if config.qk_norm else None

    def __call__(
        self, x: jax.Array, tokens: Tokens, kind: LayerKind, how: Computation, key: jax.Array | None
    ) -> jax.Array:
        """[B, T, H] -> [B, T, H]; attention weights are dropped with a key only."""
        q, k, v = self.project(x, how)
        pattern = self.pattern(kind, q)
        mixed = attend(q, k, v, tokens.segments, tokens.rotary[kind], pattern, how, tokens.rows, key)
        return self.join(mixed, how)

    def project(self, x: jax.Array, how: Computation) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries [B, T, heads * D], keys and values [B, T, kv_heads * D] of this device's heads, not rotated yet."""
        q, k, v = (
            self._project(x, weight, bias, how)
            for weight, bias in (
                (self.query, self.query_bias),
                (self.key, self.key_bias),
                (self.value, self.value_bias),
            )
        )
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self._norm_heads(q, self.query_norm), self._norm_heads(k, self.key_norm)
        return q, k, v

    def join(self, mixed: jax.Array, how: Computation) -> jax.Array:
        """[B, T, H] for the residual stream, from what this device's heads mixed, [B, T, heads * D]."""
        return add_over(linear(mixed, self.out[...], how.attention_products), "model")

    def _project(
        self,
        x: jax.Array,
        weight: nnx.Param[jax.Array],
        bias: nnx.Param[jax.Array] | None,
        how: Computation,
    ) -> jax.Array:
        y = linear(x, weight[...], how.attention_products)
        return y if bias is None else y + bias[...].astype(y.dtype)

    def _norm_heads(self, x: jax.Array, norm: RMSNorm) -> jax.Array:
        return norm(x.reshape(*x.shape[:2], -1, self.config.head_dim)).reshape(x.shape)

    def pattern(self, kind: LayerKind, q: jax.Array) -> Pattern:
        """Who sees whom, among the heads of these queries: all of them, or one device's."""
        return Pattern.of(self.config, kind, self.config.num_heads * self.config.head_dim // q.shape[-1])


class Mlp(nnx.Module):
    """Two projections around an activation, or three with a gate."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        L, H, M = config.num_layers, config.hidden_dim, config.mlp_dim
        self.activation = config.activation
        self.gate = normal(rngs, (L, H, M), ("layers", "embed", "mlp"), H**-0.5) if config.gated else None
        self.up = normal(rngs, (L, H, M), ("layers", "embed", "mlp"), H**-0.5)
        self.down = normal(rngs, (L, M, H), ("layers", "mlp", "embed"), (2 * L * M) ** -0.5)

    def __call__(self, x: jax.Array, how: Computation) -> jax.Array:
        """[B, T, H] -> [B, T, H]."""
        act = how.cheaply(ACTIVATIONS[self.activation])
        up = linear(x, self.up[...], how.mlp_products)
        inner = act(up) if self.gate is None else act(linear(x, self.gate[...], how.mlp_products)) * up
        return add_over(linear(inner, self.down[...], how.mlp_products), "model")


class Block(nnx.Module):
    """One layer of the decoder."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        L, H, post = config.num_layers, config.hidden_dim, config.post_norms
        self.attention_norm = RMSNorm(config, L, H)
        self.attention = Attention(config, rngs=rngs)
        self.attention_post_norm = RMSNorm(config, L, H) if post else None
        self.mlp_norm = RMSNorm(config, L, H)
        self.mlp = Mlp(config, rngs=rngs)
        self.mlp_post_norm = RMSNorm(config, L, H) if post else None
        self.dropout_rate = config.dropout_rate

    def __call__(
        self, x: jax.Array, tokens: Tokens, kind: LayerKind, how: Computation, key: jax.Array | None
    ) -> jax.Array:
        """[B, T, H] -> [B, T, H]; no dropout without a key, uint32 words that no other layer or step has."""
        joined = self.attention(how.cheaply(self.attention_norm)(x), tokens, kind, how, _site(key, 0))
        x = x + self._dropout(self.attention_branch(joined), tokens, _site(key, 1))
        return x + self._dropout(self.mlp_branch(x, how), tokens, _site(key, 2))

    def attention_branch(self, joined: jax.Array) -> jax.Array:
        """What attention's result [B, T, H] adds to the stream."""
        return _normed(joined, self.attention_post_norm)

    def mlp_branch(self, x: jax.Array, how: Computation) -> jax.Array:
        """What the MLP adds to the stream [B, T, H]."""
        return _normed(self.mlp(how.cheaply(self.mlp_norm)(x), how), self.mlp_post_norm)

    def _dropout(self, x: jax.Array, tokens: Tokens, key: jax.Array | None) -> jax.Array:
        return dropout(x, self.dropout_rate, tokens.rows, tokens.positions, key)


def dropout(x: jax.Array, rate: float, rows: jax.Array, positions: jax.Array, key: jax.Array | None) -> jax.Array:
    """Zeroes features of [B, T, H] with probability `rate` and scales up the rest; the identity without a key.

    What is zeroed follows from the key and from a feature's place in the step (`rows` [B], `positions` [T]), whatever
    device it is on.
    """
    if key is None or rate == 0.0:
        return x
    kept = keep_mask(key, (rows[:, None, None], positions[:, None], jnp.arange(x.shape[-1])), rate)
    return jnp.where(kept, x * (1.0 / (1.0 - rate)), 0.0).astype(x.dtype)


def _site(key: jax.Array | None, site: int) -> jax.Array | None:
    return None if key is None else jnp.append(key, jnp.uint32(site))


def _normed(x: jax.Array, norm: RMSNorm | None) -> jax.Array:
    return x if norm is None else norm(x)
