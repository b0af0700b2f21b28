"""One optimizer step: loss, gradients, update, metrics. Read from top to bottom.

    loss = sum over the step's tokens of w (-log p(target)) / sum of w

A step's [sequences_per_step, T] tokens are visited in `accumulation` micro-batches. Gradients of the *sums* are added
up and divided once by all weights, so that a step's result does not depend on how its tokens fall into micro-batches.

Nothing here talks to the host: a step is one compiled program on the whole mesh. Its dropout follows from (seed, step)
and a token's place in the step alone, so a resumed run repeats what the first one would have done, on any mesh.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from trainer.batch import Batch
from trainer.distill.lesson import Lesson, temperature_at
from trainer.gradients import Sums, make_gradients, make_summed_loss
from trainer.loss_scale import Health, after_step, healthy
from trainer.mesh import Sharding, batch_sharding, replicated
from trainer.model import Params
from trainer.optimizer import learning_rate, make_optimizer
from trainer.trained import describe_trained, init_trained, with_projection
from vishwamai.contract.resolved import ResolvedJob


class TrainState(NamedTuple):
    """All that training carries from step to step; trees of its shapes and of its placements have the same form."""

    step: Any
    """int32 scalar: optimizer steps done."""
    params: Params
    opt_state: Any
    health: Any
    """Loss scale and counts of skipped steps, trainer.loss_scale.Health."""


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
    """False: loss or gradients are not numbers, and weights and optimizer were left as they were."""
    health: Health
    """After the step."""
    parts: dict[str, jax.Array] = {}
    """Beside a teacher: means per token of what the loss is made of, and how the two models compare."""


EvalStep = Callable[[Params, Batch], Sums]


def make_train_step(job: ResolvedJob, mesh: Mesh) -> jax.stages.Wrapped:
    """The jitted step (state, batch) -> (state, metrics); batch fields are [sequences_per_step, T].

    The state given is consumed: its buffers become the new state's. Of a job with a teacher, the teacher's parameters
    are a third argument, which stays as it is.
    """
    optimizer = make_optimizer(job.effective.training, describe_trained(job).matrices())
    schedule = learning_rate(job.effective.training)
    gradients_of = make_gradients(job, mesh, None if job.teacher is None else Lesson(job, mesh))
    _, dropout_key = seed_keys(job.effective.run.seed)

    def taught(state: TrainState, teacher: tuple[Params, ...]) -> tuple[Any, ...]:
        section, max_steps = job.effective.distillation, job.effective.training.max_steps
        return (*teacher, temperature_at(section, state.step, max_steps)) if teacher and section else ()

    def step(state: TrainState, batch: Batch, *teacher: Params) -> tuple[TrainState, StepMetrics]:
        key = jax.random.bits(jax.random.fold_in(dropout_key, state.step), (2,))
        sums, gradients = gradients_of(state.params, batch, key, state.health.scale, *taught(state, teacher))
        share = 1.0 / jnp.maximum(sums.weight, 1.0)
        loss = sums.loss * share
        gradients = jax.tree.map(lambda gradient: gradient * (share / state.health.scale), gradients)
        grad_norm = optax.tree.norm(gradients)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        # Value by value, so that each is updated in place. A weight stays as it was, too, if it alone would overflow:
        # what is saved can always be trained on.
        params = jax.tree.map(lambda new, old: jnp.where(finite & jnp.isfinite(new), new, old), params, state.params)
        opt_state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), opt_state, state.opt_state)
        health = after_step(state.health, job.precision, loss, finite)
        parts = {name: x * share for name, x in sums.parts.items()}
        metrics = StepMetrics(loss, grad_norm, schedule(state.step), sums.weight, finite, health, parts)
        return TrainState(state.step + 1, params, opt_state, health), metrics

    shardings = state_shardings(job, mesh)
    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, replicated(mesh)))


def make_eval_step(job: ResolvedJob, mesh: Mesh) -> EvalStep:
    """The compiled (params, batch) -> (sum of losses in nats, sum of weights), without dropout.

    Batch fields are [sequences_per_micro_batch, T].
    """
    return jax.jit(make_summed_loss(job, mesh), out_shardings=replicated(mesh))


def init_state(job: ResolvedJob, mesh: Mesh) -> TrainState:
    """A fresh state, made in place on the mesh; its values do not depend on the mesh."""
    init_key, _ = seed_keys(job.effective.run.seed)
    return _made(job, mesh, lambda: _fresh(job, init_trained(job, init_key)))()


def state_from_params(job: ResolvedJob, mesh: Mesh, params: Params) -> TrainState:
    """The state of a run that starts from given weights, such as imported ones; they may lie on the host."""
    params = with_projection(job, params, seed_keys(job.effective.run.seed)[0])
    placed = jax.device_put(params, state_shardings(job, mesh).params)
    return _made(job, mesh, lambda placed: _fresh(job, placed))(placed)


def _made(job: ResolvedJob, mesh: Mesh, make: Callable[..., TrainState]) -> Callable[..., TrainState]:
    # Runs once: on CPU, optimizing the random number generators takes far longer than running them.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    return jax.jit(make, out_shardings=state_shardings(job, mesh), compiler_options=options)


def _fresh(job: ResolvedJob, params: Params) -> TrainState:
    optimizer = make_optimizer(job.effective.training, describe_trained(job).matrices())
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), healthy(job.precision))


def abstract_state(job: ResolvedJob, mesh: Mesh) -> TrainState:
    """The state as jax.ShapeDtypeStruct with shardings: what a restore asks for."""
    shapes, shardings = _state_shapes(job), state_shardings(job, mesh)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, shardings
    )


def abstract_batch(job: ResolvedJob, mesh: Mesh) -> Batch:
    """One step's batch as jax.ShapeDtypeStruct with shardings."""
    shape = (job.batch.sequences_per_step, job.effective.model.max_seq_len)
    place = batch_sharding(mesh)
    whole, share = (jax.ShapeDtypeStruct(shape, dtype, sharding=place) for dtype in (jnp.int32, jnp.float32))
    ids, weights = cast(jax.Array, whole), cast(jax.Array, share)
    return Batch(ids, ids, ids, weights)


def state_shardings(job: ResolvedJob, mesh: Mesh) -> TrainState:
    """Where each part of the state lives: optimizer moments beside their parameters, counters everywhere."""
    description = describe_trained(job)
    optimizer = make_optimizer(job.effective.training, description.matrices())
    params = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        description.specs(Sharding.of(job, mesh)),
        is_leaf=lambda x: isinstance(x, jax.sharding.PartitionSpec),
    )
    shapes = _state_shapes(job)
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, place: place,
        shapes.opt_state,
        params,
        transform_non_params=lambda _: replicated(mesh),
    )
    health = jax.tree.map(lambda _: replicated(mesh), shapes.health)
    return TrainState(replicated(mesh), params, opt_state, health)


def put_batch(batch: Batch, mesh: Mesh) -> Batch:
    """A host's batch laid over the mesh; every process passes the same whole batch and keeps its own part."""
    place = batch_sharding(mesh)
    return jax.tree.map(lambda field: jax.make_array_from_callback(field.shape, place, field.__getitem__), batch)


def seed_keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """Independent keys for initialization and for dropout."""
    init, dropout = jax.random.split(jax.random.key(seed))
    return init, dropout


def _state_shapes(job: ResolvedJob) -> TrainState:
    return jax.eval_shape(lambda params: _fresh(job, params), describe_trained(job).shapes)


__all__ = [
    "EvalStep",
    "StepMetrics",
    "TrainState",
    "abstract_batch",
    "abstract_state",
    "init_state",
    "make_eval_step",
    "make_train_step",
    "put_batch",
    "seed_keys",
    "state_from_params",
    "state_shardings",
]
