"""What the loop asks for: the batch of a step, the evaluation's batches, and facts about the corpus."""

from functools import lru_cache
from typing import Any

import numpy as np

from trainer.batch import Batch
from trainer.data import sources
from trainer.data.documents import Documents, hold_out, tokenize
from trainer.data.packing import Windows
from trainer.data.tokenizers import Tokenizer, check_fits, open_tokenizer
from trainer.errors import UserError
from vishwamai.contract.config import DataSection
from vishwamai.contract.resolved import ResolvedJob


class TrainingData:
    """A tokenized corpus in memory. Batches are pure functions of the config and the step: resuming needs no state."""

    def __init__(
        self, job: ResolvedJob, tokenizer: Tokenizer, train: Windows, held_out: Windows, facts: dict[str, Any]
    ) -> None:
        self.tokenizer = tokenizer
        self._job = job
        self._train = train
        self._held_out = held_out
        self._facts = facts
        self._order_of = lru_cache(maxsize=2)(self._draw_order)

    def batch(self, step: int) -> Batch:
        """The batch of an optimizer step, counted from 1: numpy [job.batch.sequences_per_step, max_seq_len]."""
        return self.rows(self.window_ids(step))

    def rows(self, ids: np.ndarray) -> Batch:
        """The training windows of these numbers: numpy [ids, max_seq_len]."""
        return self._train.rows(ids)

    @property
    def window_count(self) -> int:
        """Training windows, numbered from 0."""
        return self._train.count

    def window_ids(self, step: int) -> np.ndarray:
        """int64 [job.batch.sequences_per_step]: numbers of the windows of an optimizer step, counted from 1.

        Epochs follow one another without a gap, so a batch may hold the end of one and the start of the next.
        """
        if step < 1:
            raise ValueError(f"steps count from 1, not {step}")
        size = self._job.batch.sequences_per_step
        epochs, places = np.divmod(np.arange((step - 1) * size, step * size), self._train.count)
        windows = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            windows[here] = self._order_of(int(epoch))[places[here]]
        return windows

    def eval_batches(self) -> list[Batch]:
        """The same batches at every call: numpy [job.batch.sequences_per_micro_batch, max_seq_len], short ones padded.

        At most data.eval_batches of them, spread evenly over the held-out text; [] when nothing is held out.
        """
        size = self._job.batch.sequences_per_micro_batch
        count = self._held_out.count
        wanted = min(count, size * self._job.effective.data.eval_batches)
        chosen = np.arange(wanted) * count // max(wanted, 1)
        padded = np.concatenate([chosen, np.full(-wanted % size, count)])
        return [self._held_out.rows(rows) for rows in padded.reshape(-1, size)]

    def facts(self) -> dict[str, Any]:
        """What the corpus turned out to be, as JSON; the fingerprints tell whether two runs saw the same data."""
        return dict(self._facts)

    def _draw_order(self, epoch: int) -> np.ndarray:
        """The order of the windows in an epoch, counted from 0."""
        count = self._train.count
        if not self._job.effective.data.shuffle:
            return np.arange(count)
        return np.random.default_rng([self._job.effective.run.seed, epoch]).permutation(count)


def open_data(job: ResolvedJob) -> TrainingData:
    """Reads, tokenizes, divides and packs the job's corpus.

    Raises:
      UserError: a file, a place in it, or the tokenizer is at fault; the message names data.train, data.eval or
        data.tokenizer.
    """
    config = job.effective
    tokenizer = open_tokenizer(config.data.tokenizer, config.sequence)
    check_fits(tokenizer, config.model)
    train, held_out, facts = _divided(job, tokenizer)
    windows = Windows(train, config.model.max_seq_len, tokenizer.pad_id)
    eval_windows = Windows(held_out, config.model.max_seq_len, tokenizer.pad_id)
    facts |= {
        **_facts("", windows),
        **_facts("eval_", eval_windows),
        "epochs": round(config.training.max_steps * job.batch.sequences_per_step / windows.count, 6),
        "tokenizer": tokenizer.name,
        "tokenizer_vocab_size": tokenizer.vocab_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "eos_token": tokenizer.describe(tokenizer.eos_id),
        "corpus_fingerprint": train.fingerprint,
    }
    return TrainingData(job, tokenizer, windows, eval_windows, facts)


def _divided(job: ResolvedJob, tokenizer: Tokenizer) -> tuple[Documents, Documents, dict[str, Any]]:
    """Documents to train on, documents held out, and how they came apart.

    A file that data.eval names is never trained on, even where a glob of data.train matches it.
    """
    data = job.effective.data
    matched = sources.expand(data.train, "data.train")
    eval_files = sources.expand(data.eval, "data.eval") if data.eval else []
    train_files = [file for file in matched if file not in set(eval_files)]
    if not train_files:
        raise UserError("data.train names only files that data.eval holds out: nothing is left to train on")
    documents, dropped = _documents(train_files, data, tokenizer, "data.train")
    if data.eval:
        split = "data.eval"
        train, (held_out, _) = documents, _documents(eval_files, data, tokenizer, "data.eval")
    else:
        split = "tail of the only document" if len(documents) == 1 else "by document"
        train, held_out = hold_out(documents, data.eval_fraction, job.effective.run.seed)
    return (
        train,
        held_out,
        {
            "files": len(train_files),
            "files_held_out": len(matched) - len(train_files),
            "documents_dropped": dropped,
            "split": split if held_out else "none",
        },
    )


def _documents(files: list[str], data: DataSection, tokenizer: Tokenizer, field: str) -> tuple[Documents, int]:
    documents, dropped = tokenize(sources.read(files, data, field), tokenizer, data.min_length)
    if documents:
        return documents, dropped
    if not dropped or data.min_length == 1:
        raise UserError(f"{field}: there is no text in {_some(files)}: name files that hold some")
    raise UserError(
        f"{field}: data.min_length {data.min_length} left out every document ({dropped}) of {_some(files)}: "
        "lower it, or name files with longer documents"
    )


def _some(files: list[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more files" if len(files) > 3 else "")


def _facts(prefix: str, windows: Windows) -> dict[str, Any]:
    return {
        f"{prefix}documents": len(windows.documents),
        f"{prefix}tokens": len(windows.documents.tokens),
        f"{prefix}windows": windows.count,
        f"{prefix}packing_efficiency": round(windows.efficiency, 6),
    }
