"""What lies beside a batch when a lesson needs more than the student's tokens: see Batch.lesson."""

from collections.abc import Callable, Mapping

import numpy as np

from trainer.batch import Batch
from trainer.data.loader import TrainingData
from trainer.distill.cached_rows import open_cached_rows
from trainer.distill.retold import Retold
from trainer.distill.tokens import reopen
from vishwamai.contract.resolved import ResolvedJob

Beside = Callable[[np.ndarray, Batch], Mapping[str, np.ndarray]]
"""(numbers of the windows, their batch) -> arrays [sequences, ...] by name."""


def open_beside(job: ResolvedJob, data: TrainingData) -> Beside | None:
    """What makes the lesson of a batch; None when the step needs nothing beside the windows."""
    if job.teacher_cache is not None:
        return open_cached_rows(job, data)
    if job.teacher is None or job.teacher.tokens is None:
        return None
    retold = Retold(data.tokenizer, reopen(job, job.teacher.tokens), job.teacher.model.max_seq_len)
    return lambda ids, batch: retold.lesson(batch)
