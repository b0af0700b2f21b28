"""One optimizer step: loss, gradients, update, metrics. Read from top to bottom.

    loss = sum over the step's tokens of w (-log p(target)) / sum of w

A step's [sequences_per_step, T] tokens are visited in `accumulation` micro-batches. Gradients of the *sums* are added
up and divided once by all weights, so that a step's result does not depend on how its tokens fall into micro-batches.

Nothing here talks to the host: a step is one compiled program on the whole mesh. Its dropout follows from (seed, step)
alone, so a resumed run repeats what the first one would have done.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from trainer.batch import Array, Batch
from trainer.losses import cross_entropy
from trainer.mesh import BATCH_AXES, Sharding, batch_sharding, replicated
from trainer.model import Computation, Decoder, Description, Params, describe, init_params
from trainer.optimizer import learning_rate, make_optimizer
from vishwamai.contract.resolved import ResolvedJob


class TrainState(NamedTuple):
    """All that training carries from step to step; trees of its shapes and of its placements have the same form."""

    step: Any
    """int32 scalar: optimizer steps done."""
    params: Params
    opt_state: Any


class StepMetrics(NamedTuple):
    """What one step tells, as scalars on the device; reading one waits for the step."""

    loss: jax.Array
    """Mean nats per token, before the update."""
    grad_norm: jax.Array
    """Global norm before clipping."""
    learning_rate: jax.Array
    tokens: jax.Array
    """Sum of the batch's weights: tokens that counted."""
    finite: jax.Array
    """False: loss, gradients or new weights are not numbers, and weights and optimizer were left as they were."""


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, StepMetrics]]
EvalStep = Callable[[Params, Batch], tuple[jax.Array, jax.Array]]


def make_train_step(job: ResolvedJob, mesh: Mesh) -> TrainStep:
    """The compiled step (state, batch) -> (state, metrics); batch fields are [sequences_per_step, T].

    The state given is consumed: its buffers become the new state's.
    """
    description = describe(job.effective.model)
    optimizer = make_optimizer(job.effective.training, description.matrices())
    schedule = learning_rate(job.effective.training)
    shardings = state_shardings(job, mesh)
    summed_loss = jax.value_and_grad(_make_loss(job, mesh, description), has_aux=True)
    _, dropout_key = seed_keys(job.effective.run.seed)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
        micro_batches = _split(batch, job.batch.accumulation, mesh)
        keys = jax.random.split(jax.random.fold_in(dropout_key, state.step), job.batch.accumulation)

        def accumulate(sums: Any, micro: tuple[Batch, jax.Array]) -> tuple[Any, None]:
            (loss, weight), gradients = summed_loss(state.params, *micro)
            gradients = jax.lax.with_sharding_constraint(gradients, shardings.params)
            return jax.tree.map(jnp.add, sums, (loss, weight, gradients)), None

        nothing = (jnp.zeros(()), jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        (loss, weight, gradients), _ = jax.lax.scan(accumulate, nothing, (micro_batches, keys))
        share = 1.0 / jnp.maximum(weight, 1.0)
        loss, gradients = loss * share, jax.tree.map(lambda gradient: gradient * share, gradients)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        grad_norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        finite &= jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]).all()
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        metrics = StepMetrics(loss, grad_norm, schedule(state.step), weight, finite)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))


def make_eval_step(job: ResolvedJob, mesh: Mesh) -> EvalStep:
    """The compiled (params, batch) -> (sum of losses in nats, sum of weights), without dropout.

    Batch fields are [sequences_per_micro_batch, T].
    """
    loss = _make_loss(job, mesh, describe(job.effective.model))
    return jax.jit(lambda params, batch: loss(params, batch, None), out_shardings=replicated(mesh))


def make_next_token_logits(job: ResolvedJob, mesh: Mesh) -> Callable[[Params, Array, Array], jax.Array]:
    """The compiled (params, tokens [B, T], lengths [B]) -> float32 [B, V]: logits of the token after each prompt.

    Row b's prompt is its first lengths[b] >= 1 tokens; what follows them is ignored. B must split over data and fsdp.
    """
    graph, how = describe(job.effective.model).graph, computation(job, mesh)

    def next_token_logits(params: Params, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        decoder: Decoder = nnx.merge(graph, params)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        segments = (positions < lengths[:, None]).astype(jnp.int32)
        hidden = decoder(tokens, positions, segments, how)
        return decoder.logits(hidden[jnp.arange(tokens.shape[0]), lengths - 1], how)

    return jax.jit(next_token_logits, out_shardings=replicated(mesh))


def init_state(job: ResolvedJob, mesh: Mesh) -> TrainState:
    """A fresh state, made in place on the mesh; its values do not depend on the mesh."""
    optimizer = make_optimizer(job.effective.training, describe(job.effective.model).matrices())
    init_key, _ = seed_keys(job.effective.run.seed)

    def init() -> TrainState:
        params = init_params(job.effective.model, init_key)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    # Runs once: on CPU, optimizing the random number generators takes far longer than running them.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    return jax.jit(init, out_shardings=state_shardings(job, mesh), compiler_options=options)()


def abstract_state(job: ResolvedJob, mesh: Mesh) -> TrainState:
    """The state as jax.ShapeDtypeStruct with shardings: what a restore asks for."""
    shapes, shardings = _state_shapes(job), state_shardings(job, mesh)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, shardings
    )


def state_shardings(job: ResolvedJob, mesh: Mesh) -> TrainState:
    """Where each part of the state lives: optimizer moments beside their parameters, counters everywhere."""
    description = describe(job.effective.model)
    optimizer = make_optimizer(job.effective.training, description.matrices())
    params = description.shardings(Sharding.of(job, mesh))
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, place: place,
        _state_shapes(job).opt_state,
        params,
        transform_non_params=lambda _: replicated(mesh),
    )
    return TrainState(replicated(mesh), params, opt_state)


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """A host's batch laid over the mesh; every process passes the same whole batch and keeps its own part."""
    place = batch_sharding(mesh)
    return Batch(*(jax.make_array_from_callback(field.shape, place, field.__getitem__) for field in batch))


def computation(job: ResolvedJob, mesh: Mesh) -> Computation:
    """How the job computes a forward pass."""
    return Computation(
        dtype=jnp.dtype(job.precision.compute),
        attention=job.execution.attention,
        attention_block=job.execution.attention_block,
        remat=job.execution.remat == "full",
        sharding=Sharding.of(job, mesh),
    )


def seed_keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """Independent keys for initialization and for dropout."""
    init, dropout = jax.random.split(jax.random.key(seed))
    return init, dropout


def _make_loss(
    job: ResolvedJob, mesh: Mesh, description: Description
) -> Callable[[Params, Batch, jax.Array | None], tuple[jax.Array, jax.Array]]:
    """The summed loss of one micro-batch and the sum of its weights; dropout needs a key."""
    how = computation(job, mesh)
    shares = mesh.size // mesh.shape["model"]

    def loss(params: Params, batch: Batch, dropout_key: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        decoder: Decoder = nnx.merge(description.graph, params)
        inputs, targets, segments, positions, weights = map(jnp.asarray, batch)
        hidden = decoder(inputs, positions, segments, how, dropout_key)
        chunk_tokens = job.execution.loss_chunk_tokens * shares
        return cross_entropy(hidden, decoder.output_table(how), targets, weights, chunk_tokens=chunk_tokens)

    return loss


def _split(batch: Batch, count: int, mesh: Mesh) -> Batch:
    """[S, T] -> [count, S / count, T]; micro-batch i takes sequences i, i + count, ...

    Devices hold runs of neighbouring sequences, so this way each already has its part of every micro-batch.
    """
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, BATCH_AXES, "sequence"))

    def split(field: jax.Array) -> jax.Array:
        S, T = field.shape
        return jax.lax.with_sharding_constraint(field.reshape(S // count, count, T).swapaxes(0, 1), place)

    return Batch(*(split(jnp.asarray(field)) for field in batch))


def _state_shapes(job: ResolvedJob) -> TrainState:
    description = describe(job.effective.model)
    optimizer = make_optimizer(job.effective.training, description.matrices())
    return TrainState(
        jax.ShapeDtypeStruct((), jnp.int32), description.shapes, jax.eval_shape(optimizer.init, description.shapes)
    )


__all__ = [
    "EvalStep",
    "StepMetrics",
    "TrainState",
    "TrainStep",
    "abstract_state",
    "computation",
    "init_state",
    "make_eval_step",
    "make_next_token_logits",
    "make_train_step",
    "put_batch",
    "seed_keys",
    "state_shardings",
]
