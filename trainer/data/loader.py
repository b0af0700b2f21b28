"""What the loop asks for: the batch of a step, the evaluation's batches, and facts about the corpus."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trainer.batch import Batch
from trainer.data.cache import Cache
from trainer.data.facts import facts_of
from trainer.data.order import Order, Source
from trainer.data.portions import Opener, Portion
from trainer.data.tokenizers import Tokenizer, check_fits, open_tokenizer
from trainer.data.windows import Windows
from vishwamai.contract.config import MAIN_SET
from vishwamai.contract.resolved import ResolvedJob


class TrainingData:
    """Prepared corpora. Batches are pure functions of the config and the step: resuming needs no state."""

    def __init__(
        self,
        job: ResolvedJob,
        tokenizer: Tokenizer,
        train: Sequence[Portion],
        separate: Mapping[str, Portion] | None = None,
    ) -> None:
        """`separate`: the evaluation sets of data.eval; without any, what `train` holds out is the only one."""
        self.tokenizer = tokenizer
        self._job = job
        self._train = _Numbered([portion.train for portion in train])
        self._held_out = (
            {name: _Numbered([portion.train]) for name, portion in separate.items()}
            if separate
            else {MAIN_SET: _Numbered([portion.held_out for portion in train])}
        )
        parts = [
            Source(first, portion.train.count, portion.weight)
            for first, portion in zip(self._train.firsts[:-1].tolist(), train, strict=True)
        ]
        self._order = Order(parts, job.effective.run.seed, shuffle=job.effective.data.shuffle)
        self._facts = facts_of(job, tokenizer, train, separate or {}, self._order)

    def batch(self, step: int) -> Batch:
        """The batch of an optimizer step, counted from 1: numpy [job.batch.sequences_per_step, max_seq_len]."""
        return self.rows(self.window_ids(step))

    def rows(self, ids: np.ndarray) -> Batch:
        """The training windows of these numbers: numpy [ids, max_seq_len]. Nothing else is read."""
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
        return np.array([self._order[place] for place in range((step - 1) * size, step * size)], np.int64)

    def visited_windows(self, steps: int) -> np.ndarray:
        """int64, ascending: numbers of the windows of the first `steps` optimizer steps, each once."""
        return self._order.visited(steps * self._job.batch.sequences_per_step)

    def eval_sets(self) -> dict[str, list[Batch]]:
        """The batches of each evaluation set, as `eval_batches` gives them; the main set comes first."""
        return {name: self._batches_of(windows) for name, windows in self._held_out.items()}

    def eval_batches(self) -> list[Batch]:
        """Those of the main evaluation set.

        They are the same at every call: numpy [job.batch.sequences_per_micro_batch, max_seq_len], short ones padded; at
        most data.eval_batches of them, spread evenly over the set's text; [] when nothing is held out.
        """
        return self._batches_of(next(iter(self._held_out.values())))

    def _batches_of(self, windows: "_Numbered") -> list[Batch]:
        size = self._job.batch.sequences_per_micro_batch
        count = windows.count
        wanted = min(count, size * self._job.effective.data.eval_batches)
        chosen = np.arange(wanted) * count // max(wanted, 1)
        padded = np.concatenate([chosen, np.full(-wanted % size, count)])
        return [windows.rows(rows) for rows in padded.reshape(-1, size)]

    def facts(self) -> dict[str, Any]:
        """What the corpus turned out to be, as JSON; the fingerprints tell whether two runs saw the same data."""
        return dict(self._facts)


class _Numbered:
    """Windows of several corpora under one row of numbers."""

    def __init__(self, parts: Sequence[Windows]) -> None:
        self._parts = parts
        self.firsts = np.cumsum([0, *(part.count for part in parts)])
        self.count = int(self.firsts[-1])

    def rows(self, ids: np.ndarray) -> Batch:
        """The windows of these numbers; `count` gives a row of padding."""
        if len(self._parts) == 1:
            return self._parts[0].rows(ids)
        part_of = np.minimum(np.searchsorted(self.firsts, ids, side="right"), len(self._parts)) - 1
        found = [self._parts[part].rows(ids[part_of == part] - self.firsts[part]) for part in range(len(self._parts))]
        places = np.argsort(np.argsort(part_of, kind="stable"), kind="stable")
        return jax.tree.map(lambda *fields: np.concatenate(fields)[places], *found)


def open_data(job: ResolvedJob, output: Path) -> TrainingData:
    """Finds the job's corpora and their windows, or prepares them: in data.cache, or else under `output`.

    Raises:
      UserError: a file, a place in it, or the tokenizer is at fault; the message names data.train, data.eval or
        data.tokenizer.
      StorageError: there is no room for tokenized text.
    """
    config = job.effective
    tokenizer = open_tokenizer(config.data.tokenizer, config.sequence)
    check_fits(tokenizer, config.model)
    opener = Opener(job, tokenizer, Cache.of(config.data, output))
    return TrainingData(job, tokenizer, opener.training(), opener.evaluation())
