"""The decoder's forward pass over a key/value cache: a chunk of a prompt, or one token, at a time.

    q, k, v of T new tokens at positions p      cache[l, b, p] <- k, v      attention over cache[l, b, 0 .. p]

The layers, their order and their weights are the training model's (trainer/model); only who is attended to differs.
The cache goes from layer to layer in the scan's carry, so that it is written in place.

Rows split over every mesh axis whose devices work on different tokens, key/value heads over model.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from trainer.attention.rotary import rotary_tables, rotate
from trainer.generate.attend import attend_cached
from trainer.generate.cache import Cache, empty_cache, of_layer, write
from trainer.gradients import OneDevice
from trainer.mesh import TOKEN_AXES
from trainer.model import Decoder, Params
from trainer.model.decoder import layer_groups, visit
from trainer.model.layers import Block
from trainer.trained import describe_trained
from vishwamai.contract.config.model import LayerKind
from vishwamai.contract.generation import CacheFormat
from vishwamai.contract.resolved import ResolvedJob


class Passes:
    """What jitted programs of generation are made of, for one job on one mesh."""

    def __init__(self, job: ResolvedJob, mesh: Mesh, kept: CacheFormat) -> None:
        """`kept`: the cache's number format."""
        self._model, self._mesh, self._kept = job.effective.model, mesh, kept
        # In eight bits all rows of a pass would share a scale: a row's text would depend on its neighbours.
        plain = job.precision.model_copy(update={"products": "compute", "products_in": [], "scaling": "none"})
        self._device = OneDevice(job.model_copy(update={"precision": plain}), mesh)
        self._matrices = describe_trained(job).matrices()
        rows = tuple(axis for axis in TOKEN_AXES if mesh.shape[axis] > 1)
        self.row_devices = 1
        """What divides the number of rows."""
        for axis in rows:
            self.row_devices *= mesh.shape[axis]
        heads = "model" if mesh.shape["model"] > 1 else None
        self._rows = PartitionSpec(rows or None)
        spec = PartitionSpec(None, rows or None, None, heads)
        self._cache_specs = jax.tree.map(lambda _: spec, jax.eval_shape(lambda: self.empty(1, 1)))

    @property
    def dtype(self) -> jnp.dtype:
        """Of hidden states."""
        return self._device.how.dtype

    @property
    def cache_shardings(self) -> Any:
        """Where the cache lives: a NamedSharding for each array."""
        return jax.tree.map(
            lambda spec: NamedSharding(self._mesh, spec),
            self._cache_specs,
            is_leaf=lambda x: isinstance(x, PartitionSpec),
        )

    def cast(self, params: Params) -> Params:
        """Matrices in the computation's dtype: a pass over few tokens should read no more bytes than it multiplies."""
        return jax.tree.map(lambda x, matrix: jnp.asarray(x, self.dtype) if matrix else x, params, self._matrices)

    def empty(self, rows: int, length: int) -> Cache:
        """A cache for the whole mesh; jit it with `cache_shardings`."""
        model = self._model
        return empty_cache(model.num_layers, rows, length, model.kv_heads, model.head_dim, self._kept)

    def extend(self, params: Params, cache: Cache, tokens: jax.Array, start: jax.Array) -> tuple[jax.Array, Cache]:
        """Reads tokens [B, T], row b's from position start[b] on: hidden states [B, T, H], and the cache after it."""
        return jax.shard_map(
            self._extend,
            mesh=self._mesh,
            in_specs=(self._device.specs, self._cache_specs, self._rows, self._rows),
            out_specs=(self._rows, self._cache_specs),
        )(params, cache, tokens, start)

    def _extend(self, params: Params, cache: Cache, tokens: jax.Array, start: jax.Array) -> tuple[jax.Array, Cache]:
        """One device's part of `extend`."""
        how, model = self._device.how, self._model
        decoder: Decoder = self._device.decoder(self._device.whole(params))
        positions = start[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)
        tables = {kind: rotary_tables(model, kind, positions) for kind in set(model.layer_kinds)}
        graph, state = nnx.split(decoder.blocks)

        def layer(
            carry: tuple[jax.Array, Cache], weights: Any, kind: LayerKind, number: jax.Array
        ) -> tuple[tuple[jax.Array, Cache], None]:
            x, cache = carry
            block: Block = nnx.merge(graph, how.prepare(weights))
            q, k, v = block.attention.project(block.attention_norm(x), how)
            q, k = (rotate(one, tables[kind], model.head_dim) for one in (q, k))
            cache = write(cache, number, start, k, v, model.head_dim)
            pattern = block.attention.pattern(kind, q)
            mixed = attend_cached(q, of_layer(cache, number), positions, pattern)
            x = x + block.attention_branch(block.attention.join(mixed, how))
            return (x + block.mlp_branch(x, how), cache), None

        carry = (decoder.embed(tokens, how), cache)
        for group in layer_groups(model.layer_kinds, scan=True):
            carry, _ = visit(group, layer, carry, nnx.to_pure_dict(state))
        x, cache = carry
        return decoder.norm(x), cache
