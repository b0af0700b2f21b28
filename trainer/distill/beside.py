"""What lies beside the windows of a batch when a lesson needs more than their tokens: see Batch.lesson."""

from collections.abc import Callable, Mapping

import numpy as np

from trainer.batch import Batch
from trainer.data import TrainingData
from trainer.distill.cached_rows import open_cached_rows
from vishwamai.contract.resolved import ResolvedJob

Beside = Callable[[np.ndarray, Batch], Mapping[str, np.ndarray]]
"""(numbers of the windows, their batch) -> arrays [sequences, ...] by name."""


def open_beside(job: ResolvedJob, data: TrainingData) -> Beside | None:
    """What makes the lesson of a batch; None when the step needs nothing beside the windows."""
    if job.teacher_cache is not None:
        return open_cached_rows(job, data)
    return None
