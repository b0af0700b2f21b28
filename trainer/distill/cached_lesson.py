"""The loss of a step that follows a cached teacher, device by device.

    loss = sum over tokens of w (alpha T^2 D + (1 - alpha) CE),    D over the kept words: trainer/losses/cached.py

What the teacher said of each token comes with the batch; T goes as beside a teacher, see lesson.py.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from trainer.batch import Batch
from trainer.gradients import OneDevice, StepSums
from trainer.losses import CachedGoal, Goal, Output, TopWords, cached_distillation
from trainer.mesh import batch_sharding
from trainer.model import Params
from vishwamai.contract.resolved import ResolvedJob


class CachedLesson:
    """What the devices do to learn from what a cache keeps."""

    def __init__(self, job: ResolvedJob, mesh: Mesh) -> None:
        section = job.effective.distillation
        assert section is not None
        self._job = job
        follow = Goal(section.divergence, section.alpha, section.jsd_beta)
        self._goal = CachedGoal(follow, with_rest=section.cache_rest == "one_word")
        self.specs = (PartitionSpec(),)
        """How the mesh splits T."""

    def prepare(self, temperature: jax.Array) -> jax.Array:
        """Nothing is to be done once a step."""
        return temperature

    def loss(
        self, device: OneDevice, weights: Params, batch: Batch, rows: jax.Array, key: jax.Array, taught: Any
    ) -> StepSums:
        """Sums over this device's tokens, with the loss's parts."""
        config = self._job.effective
        decoder = device.decoder(weights)
        inputs, targets, segments, counted = map(jnp.asarray, batch[:4])
        student = Output(decoder(inputs, segments, rows, device.how, key), decoder.output_table(device.how))
        total, parts = cached_distillation(
            student,
            TopWords(**{name: jnp.asarray(x) for name, x in batch.lesson.items()}),
            targets,
            counted,
            taught,
            self._goal,
            chunk_tokens=self._job.execution.loss_chunk_tokens,
            vocab_axis=None if student.table.shape[0] == config.model.vocab_size else "model",
            z_loss=config.training.z_loss,
            label_smoothing=config.training.label_smoothing,
            softcap=config.model.logit_softcap,
            transpose_gradients=device.how.transpose_gradients,
        )
        told = {"ce": parts.ce, "kl": parts.kl, "teacher_loss": parts.teacher, "agreement": parts.agreement}
        return StepSums(total, jnp.sum(counted), told)


def abstract_kept(job: ResolvedJob, mesh: Mesh) -> dict[str, jax.Array]:
    """What of a cached teacher lies beside a step's tokens, as jax.ShapeDtypeStruct with shardings; else nothing."""
    if job.teacher_cache is None:
        return {}
    tokens = job.batch.sequences_per_step, job.effective.model.max_seq_len
    kept = *tokens, job.teacher_cache.top_k
    fields: dict[str, tuple[tuple[int, ...], Any]] = {
        "ids": (kept, jnp.int32),
        "log_probs": (kept, jnp.float16),
        "rest": (tokens, jnp.float32),
        "target": (tokens, jnp.float32),
    }
    place = batch_sharding(mesh)
    return {
        name: cast(jax.Array, jax.ShapeDtypeStruct(shape, dtype, sharding=place))
        for name, (shape, dtype) in fields.items()
    }
