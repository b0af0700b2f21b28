"""The decoder-only transformer: embed, L pre-norm blocks, norm, and the output table.

    x_0 = E[tokens]     x_l = block_l(x_{l-1})     hidden = norm(x_L)     logits = hidden O^T,  O = E when tied

The L blocks are one module whose weights carry a leading "layers" axis, visited by lax.scan: the program's size and its
compile time do not depend on depth. With remat each block keeps only its input for the backward pass.

Both tables start with standard deviation 1 / (4 sqrt(H)). Hidden states have unit mean square, so a logit starts with
standard deviation 1/4 and the loss with ln V + 1/32 or so; a tied table stays small beside the blocks' output, or the
model would begin by predicting the token it just read.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from trainer.model.layers import Block, Computation, RMSNorm, normal
from trainer.model.rotary import rotary_tables
from vishwamai.contract.config import ModelSection


class Decoder(nnx.Module):
    """Maps token ids to hidden states; `output_table` turns those into logits."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        V, H = config.vocab_size, config.hidden_dim
        self.config = config
        self.embedding = normal(rngs, (V, H), ("vocab", "embed"), 0.25 * H**-0.5)
        self.blocks = Block(config, rngs=rngs)
        self.norm = RMSNorm((H,), ("norm",), config.norm_epsilon)
        self.head = None if config.tie_embeddings else normal(rngs, (V, H), ("vocab", "embed"), 0.25 * H**-0.5)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        segments: jax.Array,
        how: Computation,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Hidden states [B, T, H], normalized, in how.dtype, from int [B, T] tokens, positions and segments."""
        rotary = rotary_tables(positions, self.config.head_dim, self.config.rope_theta)
        graph, weights = nnx.split(self.blocks)

        def layer(x: jax.Array, weights_and_key: tuple[Any, jax.Array | None]) -> tuple[jax.Array, None]:
            block_weights, key = weights_and_key
            return nnx.merge(graph, block_weights)(x, segments, rotary, how, key), None

        keys = None if dropout_key is None else jax.random.split(dropout_key, self.config.num_layers)
        x = self._embed(tokens, how)
        x, _ = jax.lax.scan(jax.checkpoint(layer) if how.remat else layer, x, (weights, keys))
        return self.norm(x)

    def _embed(self, tokens: jax.Array, how: Computation) -> jax.Array:
        # Looked up in whole rows: a table split by features would scatter every token over the mesh.
        table = how.sharding.constrain(self.embedding[...].astype(how.dtype), "vocab", None)
        return how.sharding.constrain(table[tokens], "batch", "sequence", None)

    def output_table(self, how: Computation) -> jax.Array:
        """[V, H] in how.dtype."""
        table = self.embedding if self.head is None else self.head
        return how.sharding.constrain(table[...].astype(how.dtype), "vocab", None)

    def logits(self, hidden: jax.Array, how: Computation) -> jax.Array:
        """float32 [..., V] of hidden states [..., H]."""
        return jnp.einsum("...h,vh->...v", hidden, self.output_table(how), preferred_element_type=jnp.float32)
