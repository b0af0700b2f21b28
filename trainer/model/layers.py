"""The parts of a block: RMSNorm, attention, MLP, and how they join the residual stream.

    x <- x + dropout(attention(norm(x)))        x <- x + dropout(mlp(norm(x)))          x [B, T, H]

    norm(x) = scale * x / sqrt(mean(x^2) + eps), statistics in float32
    mlp(x) = act(x W_up) W_down, or gated: (act(x W_gate) * x W_up) W_down
    act: gelu (tanh form), gelu_exact (erf), geglu (gate, tanh gelu), swiglu (gate, silu)

No biases. Weights are float32 and are cast to the computation's dtype where they are used. Projections start with
variance 1/fan_in; those that end in the residual stream are scaled down by 1/sqrt(2 layers) more, so that the stream's
variance does not grow with depth (Radford et al. 2019).

A block is made with the weights of all L layers stacked, hence the leading L in each shape; a layer runs as the block
with its own slice of them (decoder.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from trainer.attention import AttentionKind, attention
from trainer.mesh import Sharding
from trainer.model.rotary import Tables, rotate
from vishwamai.contract.config import ModelSection

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": partial(jax.nn.gelu, approximate=True),
    "gelu_exact": partial(jax.nn.gelu, approximate=False),
    "geglu": partial(jax.nn.gelu, approximate=True),
    "swiglu": jax.nn.silu,
}
GATED = frozenset({"geglu", "swiglu"})


@dataclass(frozen=True)
class Computation:
    """How a forward pass is computed; none of it changes what is computed beyond rounding."""

    dtype: jnp.dtype
    attention: AttentionKind
    attention_block: int
    remat: bool
    sharding: Sharding


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str, ...], std: float) -> nnx.Param[jax.Array]:
    """A float32 weight drawn from N(0, std^2), with a logical name for each axis."""
    return nnx.Param(std * jax.random.normal(rngs.params(), shape), out_sharding=axes, eager_sharding=False)


class RMSNorm(nnx.Module):
    """Scales every token's features to unit mean square, then by a learned factor per feature."""

    def __init__(self, shape: tuple[int, ...], axes: tuple[str, ...], epsilon: float) -> None:
        self.scale = nnx.Param(jnp.ones(shape), out_sharding=axes, eager_sharding=False)
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., features], in x's dtype."""
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
        return (x32 * jax.lax.rsqrt(mean_square + self.epsilon) * self.scale[...]).astype(x.dtype)


class Attention(nnx.Module):
    """Causal attention within documents; num_heads queries share kv_heads keys and values."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        L, H, N, K, D = config.num_layers, config.hidden_dim, config.num_heads, config.kv_heads, config.head_dim
        self.query = normal(rngs, (L, H, N, D), ("layers", "embed", "heads", "head_dim"), H**-0.5)
        self.key = normal(rngs, (L, H, K, D), ("layers", "embed", "kv_heads", "head_dim"), H**-0.5)
        self.value = normal(rngs, (L, H, K, D), ("layers", "embed", "kv_heads", "head_dim"), H**-0.5)
        self.out = normal(rngs, (L, N, D, H), ("layers", "heads", "head_dim", "embed"), (2 * L * N * D) ** -0.5)

    def __call__(self, x: jax.Array, segments: jax.Array, rotary: Tables, how: Computation) -> jax.Array:
        """[B, T, H] -> [B, T, H]."""
        place = how.sharding.constrain

        def project(weight: nnx.Param[jax.Array]) -> jax.Array:
            return jnp.einsum("bth,hnd->btnd", x, weight[...].astype(x.dtype))

        q = place(rotate(project(self.query), rotary), "batch", "sequence", "heads", None)
        # Every query's device needs all keys: a split sequence gathers them here, once.
        k = place(rotate(project(self.key), rotary), "batch", None, "kv_heads", None)
        v = place(project(self.value), "batch", None, "kv_heads", None)
        mixed = attention(q, k, v, segments, kind=how.attention, block=how.attention_block)
        return jnp.einsum("btnd,ndh->bth", mixed, self.out[...].astype(x.dtype))


class Mlp(nnx.Module):
    """Two projections around an activation, or three with a gate."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        L, H, M = config.num_layers, config.hidden_dim, config.mlp_dim
        gated = config.activation in GATED
        self.activation = config.activation
        self.gate = normal(rngs, (L, H, M), ("layers", "embed", "mlp"), H**-0.5) if gated else None
        self.up = normal(rngs, (L, H, M), ("layers", "embed", "mlp"), H**-0.5)
        self.down = normal(rngs, (L, M, H), ("layers", "mlp", "embed"), (2 * L * M) ** -0.5)

    def __call__(self, x: jax.Array, how: Computation) -> jax.Array:
        """[B, T, H] -> [B, T, H]."""
        act = ACTIVATIONS[self.activation]
        up = x @ self.up[...].astype(x.dtype)
        inner = act(up) if self.gate is None else act(x @ self.gate[...].astype(x.dtype)) * up
        inner = how.sharding.constrain(inner, "batch", "sequence", "mlp")
        return inner @ self.down[...].astype(x.dtype)


class Block(nnx.Module):
    """One layer of the decoder."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        L, H = config.num_layers, config.hidden_dim
        self.attention_norm = RMSNorm((L, H), ("layers", "norm"), config.norm_epsilon)
        self.attention = Attention(config, rngs=rngs)
        self.mlp_norm = RMSNorm((L, H), ("layers", "norm"), config.norm_epsilon)
        self.mlp = Mlp(config, rngs=rngs)
        self.dropout_rate = config.dropout_rate

    def __call__(
        self, x: jax.Array, segments: jax.Array, rotary: Tables, how: Computation, key: jax.Array | None
    ) -> jax.Array:
        """[B, T, H] -> [B, T, H]; no dropout without a key."""
        keys = (None, None) if key is None else tuple(jax.random.split(key))
        branch = self.attention(self.attention_norm(x), segments, rotary, how)
        x = how.sharding.constrain(x + dropout(branch, self.dropout_rate, keys[0]), "batch", "sequence", None)
        branch = self.mlp(self.mlp_norm(x), how)
        return how.sharding.constrain(x + dropout(branch, self.dropout_rate, keys[1]), "batch", "sequence", None)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes features with probability `rate` and scales up the rest; the identity without a key."""
    if key is None or rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0).astype(x.dtype)
