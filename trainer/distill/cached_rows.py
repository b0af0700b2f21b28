"""What a cache keeps of the windows of a batch, once it is sure that it is of these windows and of this teacher."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainer.batch import Batch
from trainer.data.loader import TrainingData
from trainer.distill.cache_files import (
    SETTING,
    Manifest,
    check_facts,
    check_files,
    open_records,
    read_manifest,
    window_numbers,
)
from trainer.distill.identity import data_facts, files_fingerprint
from trainer.distill.teacher import place_of
from trainer.errors import UserError
from vishwamai.contract.resolved import ResolvedJob

_LOG = logging.getLogger(__name__)


def open_cached_rows(job: ResolvedJob, data: TrainingData) -> "CachedRows":
    """The records that the job's windows have in its cache.

    Raises UserError when the cache is of other data or another teacher, is damaged, or lacks windows.
    """
    assert job.teacher_cache is not None
    folder = Path(job.teacher_cache.folder)
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{SETTING} {str(folder)!r} holds no cache any more: write it again")
    check_facts(manifest, data_facts(job, data) | {"teacher_files": _teacher_files(job)}, folder)
    check_files(folder, manifest, contents=True)
    return CachedRows(job, folder, manifest, data.visited_windows(job.effective.training.max_steps))


def _teacher_files(job: ResolvedJob) -> str | None:
    """The files of the teacher that the config names; None when it is not there to be compared with."""
    section = job.effective.distillation
    assert section is not None
    try:
        place = place_of(Path(section.teacher_model).expanduser(), job.effective.model.max_seq_len)
    except UserError as error:
        _LOG.info("the cache is taken for the teacher's, which is not looked at (%s)", error)
        return None
    return files_fingerprint(place.folder, place.run, place.step)


class CachedRows:
    """Records of a cache by their windows' numbers."""

    def __init__(self, job: ResolvedJob, folder: Path, manifest: Manifest, wanted: np.ndarray) -> None:
        """`wanted`: int64 [windows], ascending, which must all be there; else UserError."""
        assert job.teacher_cache is not None
        self._folder, self._top_k = folder, job.teacher_cache.top_k
        numbers = window_numbers(folder, manifest)
        windows = np.concatenate(numbers or [np.zeros(0, np.int64)])
        order = np.argsort(windows, kind="stable")
        self._windows = windows[order]
        self._files = np.repeat(np.arange(len(numbers)), [len(some) for some in numbers])[order]
        self._rows = np.concatenate([np.arange(len(some)) for some in numbers] or [np.zeros(0, np.int64)])[order]
        self._records = [open_records(folder, number) for number in range(len(numbers))]
        missing = len(wanted) - int(np.isin(wanted, self._windows).sum())
        if missing:
            raise UserError(
                f"{SETTING}: the cache in {str(folder)!r} lacks {missing:,} of the {len(wanted):,} windows that this "
                "run visits: run this config with run.kind cache_teacher, which adds them"
            )

    def __call__(self, ids: np.ndarray, batch: Batch) -> Mapping[str, np.ndarray]:
        """TopWords of the windows, by field: ids and log_probs [windows, T, k], rest and target [windows, T]."""
        places = np.searchsorted(self._windows, ids)
        found = self._windows[np.minimum(places, len(self._windows) - 1)] == ids
        if not found.all():
            raise UserError(
                f"{SETTING}: the cache in {str(self._folder)!r} lacks {np.sum(~found):,} of the {len(ids):,} windows "
                "of a batch: the run has left out bad batches, and needs later ones in their place. Run this config "
                "with run.kind cache_teacher and a larger training.max_steps, which adds them; then start it again"
            )
        records = np.stack([self._records[self._files[at]][self._rows[at]] for at in places])
        k = self._top_k
        log_probs, rest = records["log_probs"], records["rest"]
        if k < log_probs.shape[-1]:  # the other kept words join those that are not kept
            others = np.exp(log_probs[..., k:].astype(np.float32)).sum(axis=-1) + np.exp(rest)
            with np.errstate(divide="ignore"):
                rest = np.maximum(np.log(others), np.float32(-1e30))
        words = records["ids"][..., :k].astype(np.int32)
        return {"ids": words, "log_probs": log_probs[..., :k], "rest": rest, "target": records["target"]}
