"""What a run prepares for a teacher of another tokenizer: the window it needs, and what the vocabularies share."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from trainer.data.loader import TrainingData
from trainer.distill.retold import Retold
from trainer.distill.teacher import with_window
from trainer.distill.tokens import Two, classes_for, reopen
from trainer.mesh import replicated
from vishwamai.contract.resolved import ResolvedJob

_SAMPLE = 64


def measured(job: ResolvedJob, data: TrainingData) -> tuple[ResolvedJob, dict[str, Any]]:
    """The job with the teacher's window as its data need it, unless the config says it; and what was found.

    Found are the sample's windows, the teacher's tokens in the longest, the window they get, and the share of the
    student's tokens that have a teacher's position beside them. Nothing for a teacher of the student's tokenizer.
    """
    section, teacher = job.effective.distillation, job.teacher
    if section is None or teacher is None or teacher.tokens is None:
        return job, {}
    theirs = reopen(job, teacher.tokens)
    windows = np.unique(np.linspace(0, data.window_count - 1, _SAMPLE).astype(np.int64))
    sample = data.rows(windows)
    longest = int(Retold(data.tokenizer, theirs, 0).lengths(sample).max())
    if section.teacher_seq_len is None:
        job = with_window(job, max(longest, 1))
    assert job.teacher is not None
    length = job.teacher.model.max_seq_len
    pair = Retold(data.tokenizer, theirs, length).lesson(sample)["pair"]
    share = float(np.sum((pair >= 0) * sample.weights) / np.sum(sample.weights))
    return job, {"windows": len(windows), "longest": longest, "teacher_seq_len": length, "paired": round(share, 6)}


def classes_on(job: ResolvedJob, data: TrainingData, mesh: Mesh) -> tuple[Any, ...]:
    """The step's arguments behind the teacher's parameters: none for a teacher of the student's tokenizer."""
    teacher = job.teacher
    if teacher is None or teacher.tokens is None:
        return ()
    two = Two(data.tokenizer, reopen(job, teacher.tokens))
    classes = classes_for(job, two, teacher.model.vocab_size)
    return (jax.device_put((classes.student, classes.teacher), replicated(mesh)),)
