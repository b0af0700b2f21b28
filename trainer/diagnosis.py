"""Which layer first gave something that is no number, for a step whose loss or gradients are none."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from trainer.batch import Batch
from trainer.collectives import add_over
from trainer.gradients import OneDevice, in_micro_batches, make_gradients
from trainer.mesh import TOKEN_AXES, batch_spec, replicated
from trainer.model import Params
from vishwamai.contract.resolved import ResolvedJob


def first_bad_layer(job: ResolvedJob, mesh: Mesh, params: Params, batch: Batch) -> str:
    """A sentence that names the first bad place of the forward pass or, if that is sound, of the backward pass.

    `batch` is the bad step's and `params` the weights before it, both on the mesh. Dropout is left out, and a
    teacher, so a fault that needs them goes unseen.
    """
    forward = jax.jit(_make_bad_states(job, mesh), out_shardings=replicated(mesh))
    bad = np.flatnonzero(np.asarray(forward(params, batch)))
    layers = job.effective.model.num_layers
    if len(bad):
        first = int(bad[0])
        where = "the embeddings" if first == 0 else f"layer {first} of {layers}"
        return f"Going forward, the output of {where} is the first that is no number."
    gradients = make_gradients(job, mesh)
    zero_key, scale = jnp.zeros(2, jnp.uint32), jnp.ones(())
    _, found = jax.jit(gradients)(params, batch, zero_key, scale)
    worst = _last_layer_with_bad_gradient(found["blocks"])
    if worst is not None:
        layer, name = worst
        return (
            f"Every layer's output is a number; going back, layer {layer} of {layers} is the first whose gradient "
            f"({name}) is none."
        )
    names = [name for name in found if name != "blocks" and not _is_finite(found[name])]
    if names:
        return f"Every layer's output and gradient is a number; the gradient of {' and '.join(names)} is none."
    taught = job.teacher is not None or job.teacher_cache is not None
    without = "dropout, loss scale and teacher" if taught else "dropout and loss scale"
    return f"Without {without}, the step's loss and gradients are numbers."


def _make_bad_states(job: ResolvedJob, mesh: Mesh) -> Callable[[Params, Batch], jax.Array]:
    """(params, batch) -> int32 [L + 1]: non-zero where a hidden state has an entry that is no number."""
    device = OneDevice(job, mesh)

    def bad_states(params: Params, batch: Batch) -> jax.Array:
        decoder = device.decoder(device.whole(params))

        def visit(micro: Batch) -> jax.Array:
            states = decoder.hidden_states(jnp.asarray(micro.inputs), jnp.asarray(micro.segments), device.how)
            return (~jnp.isfinite(states)).any(axis=(1, 2, 3)).astype(jnp.int32)

        found = jax.lax.map(visit, in_micro_batches(batch, job.batch.accumulation)).sum(0)
        return add_over(found, *TOKEN_AXES)

    return jax.shard_map(bad_states, mesh=mesh, in_specs=(device.specs, batch_spec(mesh)), out_specs=PartitionSpec())


def _last_layer_with_bad_gradient(blocks: Params) -> tuple[int, str] | None:
    """(number from 1, name of the weight) of the layer that going back reaches first."""
    found: tuple[int, str] | None = None
    for path, gradient in jax.tree_util.tree_leaves_with_path(blocks):
        bad = np.flatnonzero(~np.isfinite(np.asarray(gradient)).reshape(len(gradient), -1).all(1))
        if len(bad) and (found is None or bad[-1] + 1 > found[0]):
            found = int(bad[-1]) + 1, ".".join(str(key.key) for key in path)
    return found


def _is_finite(tree: Params) -> bool:
    return all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(tree))
