"""The loss of a step beside a teacher of another tokenizer: see trainer/losses/cross_tokenizer.py.

The teacher reads the batch's own text in its own tokens, which the host has laid beside the batch (retold.py): its
hidden states are brought to the student's positions that have read as many bytes, and layers are compared there, too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from trainer.batch import Batch
from trainer.distill.hidden import hidden_distance
from trainer.distill.lesson import PAIRED, Lesson
from trainer.gradients import OneDevice, StepSums
from trainer.losses import Goal, Output
from trainer.losses.chunks import Form
from trainer.losses.cross_tokenizer import CrossGoal, cross_tokenizer
from trainer.mesh import batch_sharding, replicated
from trainer.model import Params
from trainer.trained import PROJECTION
from vishwamai.contract.resolved import ResolvedJob

TEACHER_INPUTS, TEACHER_SEGMENTS, PAIR = "teacher_inputs", "teacher_segments", "pair"
"""Names in Batch.lesson."""


def abstract_retold(job: ResolvedJob, mesh: Mesh) -> dict[str, jax.Array]:
    """What of the teacher's own tokens lies beside a step's, as jax.ShapeDtypeStruct with shardings."""
    if job.teacher is None or job.teacher.tokens is None:
        return {}
    theirs, own = job.teacher.model.max_seq_len, job.effective.model.max_seq_len
    lengths = {TEACHER_INPUTS: theirs, TEACHER_SEGMENTS: theirs, PAIR: own}
    sequences, place = job.batch.sequences_per_step, batch_sharding(mesh)
    shapes: Any = {
        name: jax.ShapeDtypeStruct((sequences, length), jnp.int32, sharding=place) for name, length in lengths.items()
    }
    found: dict[str, jax.Array] = shapes
    return found


def abstract_classes(job: ResolvedJob, mesh: Mesh) -> tuple[Any, ...]:
    """The step's arguments behind the teacher's parameters as jax.ShapeDtypeStruct with shardings."""
    if job.teacher is None or job.teacher.tokens is None:
        return ()
    sizes = job.effective.model.vocab_size, job.teacher.model.vocab_size
    place = replicated(mesh)
    return (tuple(jax.ShapeDtypeStruct((size,), jnp.int32, sharding=place) for size in sizes),)


class CrossLesson(Lesson):
    """What the devices do to learn from a teacher that reads other tokens."""

    def __init__(self, job: ResolvedJob, mesh: Mesh) -> None:
        super().__init__(job, mesh)
        self.specs = (self.specs[0], PartitionSpec(), PartitionSpec())
        """Of the teacher's parameters, the classes of both vocabularies, and T."""

    def prepare(self, params: Params, *rest: Any) -> tuple[Any, ...]:
        """What is done once a step: the teacher's weights made whole."""
        return self._teacher.whole(params), *rest

    def loss(
        self, device: OneDevice, weights: Params, batch: Batch, rows: jax.Array, key: jax.Array, taught: Any
    ) -> StepSums:
        """Sums over this device's tokens, with the loss's parts."""
        teacher_weights, classes, temperature = taught
        inputs, targets, segments, counted = map(jnp.asarray, batch[:4])
        tokens, numbers, pair = (jnp.asarray(batch.lesson[name]) for name in (TEACHER_INPUTS, TEACHER_SEGMENTS, PAIR))
        student, teacher = device.decoder(weights), self._teacher.decoder(teacher_weights)
        own, others = ([layers[i] for layers in self._pairs] for i in (0, 1))
        hidden, states = student.with_layers(inputs, segments, rows, device.how, own, key)
        taught_hidden, taught_states = jax.lax.stop_gradient(
            teacher.with_layers(tokens, numbers, rows, self._teacher.how, others)
        )
        paired, place = pair >= 0, jnp.maximum(pair, 0)
        followed = jnp.where(paired, counted, 0)
        total, parts = cross_tokenizer(
            Output(hidden, student.output_table(device.how)),
            Output(_at(taught_hidden, place), teacher.output_table(self._teacher.how)),
            paired,
            targets,
            counted,
            temperature,
            classes,
            *self._aim_and_form(student.output_table(device.how), teacher.output_table(self._teacher.how), device),
        )
        named = {"ce": parts.ce, "kl": parts.kl, "teacher_loss": parts.teacher, "agreement": parts.agreement}
        if states is not None and taught_states is not None:
            distance = hidden_distance(
                states, _at(taught_states, place), weights.get(PROJECTION), followed, self._section.hidden_loss
            )
            total, named = total + self._section.hidden_weight * distance, named | {"hidden": distance}
        return StepSums(total, jnp.sum(counted), named | {PAIRED: jnp.sum(followed)})

    def _aim_and_form(self, own: jax.Array, other: jax.Array, device: OneDevice) -> tuple[CrossGoal, Form]:
        config, theirs, tokens = self._job.effective, self._found.model, self._found.tokens
        assert tokens is not None
        axes = [
            None if table.shape[0] == words else "model"
            for table, words in ((own, config.model.vocab_size), (other, theirs.vocab_size))
        ]
        section = self._section
        goal = Goal(section.divergence, section.alpha, section.jsd_beta, theirs.logit_softcap, axes[1])
        form = Form(
            self._job.execution.loss_chunk_tokens,
            axes[0],
            config.training.z_loss,
            config.training.label_smoothing,
            config.model.logit_softcap,
            device.how.transpose_gradients,
            "max",
        )
        return CrossGoal(goal, tokens.shared, tokens.alone), form


def _at(states: jax.Array, place: jax.Array) -> jax.Array:
    """[..., B, T, H] of states [..., B, teacher's T, H], at the places int [B, T]."""
    return jnp.take_along_axis(states, place.reshape(*(1,) * (states.ndim - 3), *place.shape, 1), axis=-2)
