"""The decoder-only transformer: embed, L pre-norm blocks, norm, and the output table.

    x_0 = E[tokens]     x_l = block_l(x_{l-1})     hidden = norm(x_L)     logits = hidden O^T,  O = E when tied

The L blocks are one module whose weights carry a leading "layers" axis, visited by lax.scan: the program's size and its
compile time do not depend on depth. Where layers of two kinds alternate, one turn of the scan visits a whole period of
the pattern (`layer_groups`). With remat each block keeps for the backward pass only what its policy names.

Both tables start with standard deviation 1 / (4 sqrt(H)). Hidden states have unit mean square, so a logit starts with
standard deviation 1/4 and the loss with ln V + 1/32 or so; a tied table stays small beside the blocks' output, or the
model would begin by predicting the token it just read.

Everything here sees one device's part of the arrays, inside `jax.shard_map`; see trainer/gradients.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from trainer.attention.rotary import rotary_tables
from trainer.collectives import add_over, index_along
from trainer.linear import PRODUCT
from trainer.model.computation import Computation, Tokens
from trainer.model.layers import Block, RMSNorm, normal
from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import LayerKind

LAYER_INPUT = "layer_input"
ATTENTION_RESULT = ("attention_out", "attention_lse")
"""Names under which remat policies know a layer's input, and attention's result with the log of its softmax's sum."""

Layer = Callable[[jax.Array, Any, LayerKind, jax.Array], jax.Array]
type Visitor[Carry] = Callable[[Carry, Any, LayerKind, jax.Array], tuple[Carry, Any]]


class Decoder(nnx.Module):
    """Maps token ids to hidden states; `output_table` turns those into logits."""

    def __init__(self, config: ModelSection, *, rngs: nnx.Rngs) -> None:
        V, H = config.vocab_size, config.hidden_dim
        self.config = config
        self.embedding = normal(rngs, (V, H), ("vocab", "embed"), 0.25 * H**-0.5)
        self.blocks = Block(config, rngs=rngs)
        self.norm = RMSNorm(config, H)
        self.head = None if config.tie_embeddings else normal(rngs, (V, H), ("vocab", "embed"), 0.25 * H**-0.5)

    def __call__(
        self,
        tokens: jax.Array,
        segments: jax.Array,
        rows: jax.Array,
        how: Computation,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Hidden states [B, T, H], normalized, in how.dtype.

        Args:
            tokens: int [B, T] of this device.
            segments: int32 [B, T] document numbers; 0 is padding.
            rows: int32 [B] numbers of the sequences within the step, for dropout.
            how: the computation.
            dropout_key: uint32 words that differ from step to step; None: no dropout.
        """
        x, _ = self._blocks(self.embed(tokens, how), self._tokens(segments, rows), how, dropout_key)
        return self.norm(x)

    def with_layers(
        self,
        tokens: jax.Array,
        segments: jax.Array,
        rows: jax.Array,
        how: Computation,
        layers: Sequence[int],
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Hidden states as a call gives them, and the outputs [len(layers), B, T, H] of these layers, from 1."""
        x, inputs = self._blocks(self.embed(tokens, how), self._tokens(segments, rows), how, dropout_key)
        outputs = [x if layer == self.config.num_layers else inputs[layer] for layer in layers]
        return self.norm(x), jnp.stack(outputs) if outputs else None

    def hidden_states(self, tokens: jax.Array, segments: jax.Array, how: Computation) -> jax.Array:
        """[L + 1, B, T, H]: the embeddings, each layer's output, and for the last layer its normalized output."""
        x = self.embed(tokens, how)
        x, inputs = self._blocks(x, self._tokens(segments, jnp.zeros(len(tokens), jnp.int32)), how, None)
        return jnp.concatenate([inputs, self.norm(x)[None]])

    def embed(self, tokens: jax.Array, how: Computation) -> jax.Array:
        """[B, T, H] embeddings; a device that holds part of the vocabulary looks up what it has."""
        table = self.embedding[...].astype(how.dtype)
        share = table.shape[0]
        if share == self.config.vocab_size:
            x = table[tokens]
        else:
            own = tokens - share * index_along("model")
            here = (own >= 0) & (own < share)
            x = add_over(jnp.where(here[..., None], table[jnp.where(here, own, 0)], 0), "model")
        return x * jnp.asarray(self.config.hidden_dim**0.5, x.dtype) if self.config.embedding_scale else x

    def output_table(self, how: Computation) -> jax.Array:
        """[V, H] in how.dtype; a model axis that divides V splits it."""
        table = self.embedding if self.head is None else self.head
        return table[...].astype(how.dtype)

    def _tokens(self, segments: jax.Array, rows: jax.Array) -> Tokens:
        T = segments.shape[1]
        positions = T * index_along("sequence") + jnp.arange(T, dtype=jnp.int32)
        tables = {kind: rotary_tables(self.config, kind, positions) for kind in set(self.config.layer_kinds)}
        return Tokens(segments, tables, rows, positions)

    def _blocks(
        self, x: jax.Array, tokens: Tokens, how: Computation, key: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """The last block's output, and every block's input [L, B, T, H] (which costs nothing unless it is used)."""
        graph, state = nnx.split(self.blocks)
        weights = nnx.to_pure_dict(state)

        def layer(x: jax.Array, weights: Any, kind: LayerKind, number: jax.Array) -> jax.Array:
            own_key = None if key is None else jnp.append(key, number)
            block = nnx.merge(graph, how.prepare(weights))
            return block(checkpoint_name(x, LAYER_INPUT), tokens, kind, how, own_key)

        inputs = []
        for group in layer_groups(self.config.layer_kinds, scan=how.scan_layers):
            x, seen = visit(group, _noting_input(_rematerialized(layer, how)), x, weights)
            inputs.append(seen)
        return x, jnp.concatenate(inputs)


class LayerGroup(NamedTuple):
    """`turns` times the same sequence of kinds, from layer `start` on."""

    start: int
    kinds: tuple[LayerKind, ...]
    turns: int


def layer_groups(kinds: tuple[LayerKind, ...], *, scan: bool) -> list[LayerGroup]:
    """The layers in order, in groups that a scan visits turn by turn; as few different layers as can be compiled.

    Without `scan` every layer is a group of its own.
    """
    if not scan:
        return [LayerGroup(i, (kind,), 1) for i, kind in enumerate(kinds)]
    return min(_groupings(kinds), key=lambda groups: sum(len(group.kinds) for group in groups))


def _groupings(kinds: tuple[LayerKind, ...]) -> Iterator[list[LayerGroup]]:
    """Runs of one kind; and for each period that fits: whole periods, then the layers that are left."""
    changes = [i for i in range(len(kinds)) if i == 0 or kinds[i] != kinds[i - 1]]
    yield [
        LayerGroup(start, (kinds[start],), end - start)
        for start, end in zip(changes, [*changes[1:], len(kinds)], strict=True)
    ]
    for period in range(2, len(kinds) // 2 + 1):
        if all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
            whole = len(kinds) // period * period
            rest = [LayerGroup(i, (kinds[i],), 1) for i in range(whole, len(kinds))]
            yield [LayerGroup(0, kinds[:period], whole // period), *rest]


def visit[Carry](group: LayerGroup, layer: Visitor[Carry], carry: Carry, weights: Any) -> tuple[Carry, Any]:
    """Runs a group's layers; what they note comes back with a leading axis of layers.

    Args:
        group: the layers.
        layer: (carry, its weights, its kind, its number) -> (carry, what it notes).
        carry: what goes from layer to layer.
        weights: those of all layers, stacked.
    """
    start, kinds, turns = group
    size = len(kinds)

    def own(w: jax.Array) -> jax.Array:
        part = w if turns * size == w.shape[0] else w[start : start + turns * size]
        return part.reshape(turns, size, *w.shape[1:])

    def turn(carry: Carry, own: tuple[Any, jax.Array]) -> tuple[Carry, Any]:
        weights, numbers = own
        notes = []
        for i, kind in enumerate(kinds):
            carry, note = layer(carry, jax.tree.map(lambda w, i=i: w[i], weights), kind, numbers[i])
            notes.append(note)
        return carry, jax.tree.map(lambda *each: jnp.stack(each), *notes)

    numbers = (start + jnp.arange(turns * size, dtype=jnp.uint32)).reshape(turns, size)
    if turns == 1:
        return turn(carry, jax.tree.map(lambda w: w[0], (jax.tree.map(own, weights), numbers)))
    carry, notes = jax.lax.scan(turn, carry, (jax.tree.map(own, weights), numbers))
    return carry, jax.tree.map(lambda x: x.reshape(turns * size, *x.shape[2:]), notes)


def _noting_input(layer: Layer) -> Visitor[jax.Array]:
    """The layer, which notes what came into it."""

    def visitor(x: jax.Array, weights: Any, kind: LayerKind, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        return layer(x, weights, kind, number), x

    return visitor


def _wide_products(primitive: Any, *operands: Any, **how: Any) -> bool:
    """Whether this is a product of the computation's own numbers; those of eight-bit numbers are kept once scaled."""
    plain: bool = jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *operands, **how)
    return plain and operands[0].dtype.itemsize > 1


def _rematerialized(layer: Layer, how: Computation) -> Layer:
    """The layer, keeping for its backward pass what the policy says."""
    policies = jax.checkpoint_policies
    if how.remat == "none":
        return layer
    if how.remat == "offload":
        policy = policies.save_and_offload_only_these_names(
            names_which_can_be_saved=list(ATTENTION_RESULT),
            names_which_can_be_offloaded=[LAYER_INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    elif how.remat == "dots":
        named = policies.save_only_these_names(PRODUCT, *ATTENTION_RESULT)
        policy = policies.save_from_both_policies(_wide_products, named)
    elif how.remat == "attention":
        policy = policies.save_only_these_names(*ATTENTION_RESULT)
    else:
        policy = policies.nothing_saveable
    return jax.checkpoint(layer, policy=policy, static_argnums=(2,), prevent_cse=not how.scan_layers)
