"""A forward pass whose results the host reads, to compare them; and logits."""

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

HiddenStates = Callable[[Params, Array, Array], tuple[jax.Array, jax.Array]]


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
        return hidden.astype(jnp.float32), output_logits(job.effective.model, params, hidden[-1])

    return jax.jit(hidden_states, out_shardings=replicated(mesh))


def output_logits(model: ModelSection, params: Params, hidden: jax.Array) -> jax.Array:
    """float32 [..., V] of hidden states [..., H]."""
    table = params["head" if "head" in params else "embedding"].astype(hidden.dtype)
    logits = jnp.einsum("...h,vh->...v", hidden, table, preferred_element_type=jnp.float32)
    return logits if model.logit_softcap is None else model.logit_softcap * jnp.tanh(logits / model.logit_softcap)
