"""Forward passes whose results the host reads: logits to draw from, hidden states to compare."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from trainer.batch import Array
from trainer.gradients import OneDevice
from trainer.mesh import batch_spec, replicated
from trainer.model import Params
from vishwamai.contract.config import ModelSection
from vishwamai.contract.resolved import ResolvedJob

NextTokenLogits = Callable[[Params, Array, Array], jax.Array]
HiddenStates = Callable[[Params, Array, Array], tuple[jax.Array, jax.Array]]


def make_next_token_logits(job: ResolvedJob, mesh: Mesh) -> NextTokenLogits:
    """The compiled (params, tokens [B, T], lengths [B]) -> float32 [B, V]: logits of the token after each prompt.

    Row b's prompt is its first lengths[b] >= 1 tokens; what follows them is ignored. B must split over data and fsdp, T
    over sequence.
    """
    device = OneDevice(job, mesh)

    def hidden(params: Params, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        rows = jnp.zeros(tokens.shape[0], jnp.int32)
        return device.decoder(device.whole(params))(tokens, segments, rows, device.how)

    split = batch_spec(mesh)
    states = jax.shard_map(hidden, mesh=mesh, in_specs=(device.specs, split, split), out_specs=split)

    def next_token_logits(params: Params, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        segments = (jnp.arange(tokens.shape[1]) < lengths[:, None]).astype(jnp.int32)
        last = states(params, tokens, segments)[jnp.arange(tokens.shape[0]), lengths - 1]
        return _logits(job.effective.model, params, last)

    return jax.jit(next_token_logits, out_shardings=replicated(mesh))


def make_hidden_states(job: ResolvedJob, mesh: Mesh) -> HiddenStates:
    """The compiled (params, tokens [B, T], segments [B, T]) -> (hidden states [L + 1, B, T, H], logits [B, T, V]).

    Both float32. The first hidden state is the embeddings, the last is normalized; see Decoder.hidden_states.
    """
    device = OneDevice(job, mesh)

    def states(params: Params, tokens: jax.Array, segments: jax.Array) -> jax.Array:
        return device.decoder(device.whole(params)).hidden_states(tokens, segments, device.how)

    split = batch_spec(mesh)
    all_states = jax.shard_map(
        states, mesh=mesh, in_specs=(device.specs, split, split), out_specs=PartitionSpec(None, *split)
    )

    def hidden_states(params: Params, tokens: jax.Array, segments: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = all_states(params, tokens, segments)
        return hidden.astype(jnp.float32), _logits(job.effective.model, params, hidden[-1])

    return jax.jit(hidden_states, out_shardings=replicated(mesh))


def _logits(model: ModelSection, params: Params, hidden: jax.Array) -> jax.Array:
    """float32 [..., V] of hidden states [..., H]."""
    table = params.get("head", params["embedding"]).astype(hidden.dtype)
    logits = jnp.einsum("...h,vh->...v", hidden, table, preferred_element_type=jnp.float32)
    return logits if model.logit_softcap is None else model.logit_softcap * jnp.tanh(logits / model.logit_softcap)
