"""The loss of a step that follows a teacher, device by device.

    loss = sum over tokens of w (alpha T^2 KL + (1 - alpha) CE + hidden_weight distance)

The teacher runs the student's tokens through its own layers, inside the same program, without dropout and without
gradients. It is split over the mesh by the same table as the student. T goes linearly from temperature at the first
step to final_temperature at the last.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from trainer.batch import Batch
from trainer.distill.hidden import hidden_distance
from trainer.gradients import OneDevice, StepSums
from trainer.losses import Goal, Output, distillation
from trainer.model import Params
from trainer.trained import PROJECTION
from vishwamai.contract.config import DistillationSection
from vishwamai.contract.resolved import ResolvedJob, Teacher


def teacher_job(job: ResolvedJob) -> ResolvedJob:
    """The job as it would be if its model were the teacher: the same mesh, tokens and number format."""
    assert job.teacher is not None
    teacher = job.teacher
    changed = {"attention": teacher.attention, "weight_gather": teacher.weight_gather, "remat": "none"}
    execution = job.execution.model_copy(update=changed)
    effective = job.effective.model_copy(update={"model": teacher.model, "distillation": None})
    return job.model_copy(update={"effective": effective, "execution": execution, "teacher": None})


def temperature_at(section: DistillationSection, step: jax.Array, max_steps: int) -> jax.Array:
    """float32 T of a step, counted from 0."""
    first = section.temperature
    last = first if section.final_temperature is None else section.final_temperature
    done = jnp.clip(step.astype(jnp.float32) / max(max_steps - 1, 1), 0.0, 1.0)
    return first + (last - first) * done


class Lesson:
    """What the devices do to learn from the job's teacher."""

    def __init__(self, job: ResolvedJob, mesh: Mesh) -> None:
        assert job.teacher is not None
        assert job.effective.distillation is not None
        self._job, self._section = job, job.effective.distillation
        self._found: Teacher = job.teacher
        self._teacher = OneDevice(teacher_job(job), mesh, job.teacher.eight_bit)
        self.specs = (self._teacher.specs, PartitionSpec())
        """How the mesh splits what `loss` is taught by: the teacher's parameters and T."""
        self._pairs = [(student, teacher) for student, teacher in job.teacher.layers]

    def prepare(self, params: Params, temperature: jax.Array) -> tuple[Params, jax.Array]:
        """What is done once a step: the teacher's weights made whole, but for those gathered layer by layer."""
        return self._teacher.whole(params), temperature

    def loss(
        self, device: OneDevice, weights: Params, batch: Batch, rows: jax.Array, key: jax.Array, taught: Any
    ) -> StepSums:
        """Sums over this device's tokens, with the loss's parts."""
        teacher_weights, temperature = taught
        inputs, targets, segments, counted = map(jnp.asarray, batch[:4])
        student, teacher = device.decoder(weights), self._teacher.decoder(teacher_weights)
        own, others = ([pair[i] for pair in self._pairs] for i in (0, 1))
        hidden, states = student.with_layers(inputs, segments, rows, device.how, own, key)
        taught_hidden, taught_states = jax.lax.stop_gradient(
            teacher.with_layers(inputs, segments, rows, self._teacher.how, others)
        )
        total, parts = self._follow(
            Output(hidden, student.output_table(device.how)),
            Output(taught_hidden, teacher.output_table(self._teacher.how)),
            targets,
            counted,
            temperature,
            device.how.transpose_gradients,
        )
        if states is not None and taught_states is not None:
            distance = hidden_distance(
                states, taught_states, weights.get(PROJECTION), counted, self._section.hidden_loss
            )
            total, parts = total + self._section.hidden_weight * distance, parts | {"hidden": distance}
        return StepSums(total, jnp.sum(counted), parts)

    def _follow(
        self,
        student: Output,
        teacher: Output,
        targets: jax.Array,
        counted: jax.Array,
        temperature: jax.Array,
        transpose_gradients: bool,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        config, theirs = self._job.effective, self._found.model
        sizes = config.model.vocab_size, theirs.vocab_size
        goal = Goal(
            "uld" if sizes[0] != sizes[1] else self._section.divergence,
            self._section.alpha,
            self._section.jsd_beta,
            theirs.logit_softcap,
            _split(teacher, sizes[1]),
        )
        total, parts = distillation(
            student,
            teacher,
            targets,
            counted,
            temperature,
            goal,
            chunk_tokens=self._job.execution.loss_chunk_tokens,
            vocab_axis=_split(student, sizes[0]),
            z_loss=config.training.z_loss,
            label_smoothing=config.training.label_smoothing,
            softcap=config.model.logit_softcap,
            transpose_gradients=transpose_gradients,
        )
        return total, {"ce": parts.ce, "kl": parts.kl, "teacher_loss": parts.teacher, "agreement": parts.agreement}


def _split(output: Output, vocabulary: int) -> str | None:
    """The axis over which a table's rows are split."""
    return None if output.table.shape[0] == vocabulary else "model"
