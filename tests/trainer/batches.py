"""Batches of random tokens in packed documents."""

import numpy as np

from trainer.batch import Batch
from vishwamai.contract.resolved import ResolvedJob


def random_batch(job: ResolvedJob, seed: int = 0, sequences: int | None = None) -> Batch:
    """Windows of two documents and some padding, cut elsewhere in each window; the first window counts nothing."""
    random = np.random.default_rng(seed)
    S, T = sequences or job.batch.sequences_per_step, job.effective.model.max_seq_len
    tokens = random.integers(0, job.effective.model.vocab_size, (S, T + 1), dtype=np.int32)
    index = np.arange(T)[None]
    cut = random.integers(1, T - 4, (S, 1))
    end = random.integers(T - 4, T + 1, (S, 1))
    segments = np.where(index < cut, 1, np.where(index < end, 2, 0)).astype(np.int32)
    weights = ((segments > 0) & (index != cut - 1) & (index != end - 1)).astype(np.float32)
    weights[0] = 0.0
    return Batch(tokens[:, :-1], tokens[:, 1:], segments, weights)
