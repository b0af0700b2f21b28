"""Locations of the config to windows: what one source of the training text, or the held-out text, is made of."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from trainer.data import sources
from trainer.data.cache import Cache
from trainer.data.plan import Counts, Plan, Question
from trainer.data.prepare import some
from trainer.data.shards import Corpus, is_prepared
from trainer.data.tokenizers import Tokenizer
from trainer.data.windows import Windows
from trainer.errors import UserError
from vishwamai.contract.config import MAIN_SET, DataSection
from vishwamai.contract.resolved import ResolvedJob

_POOR = 0.9

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Portion:
    """A corpus with its plan, opened."""

    name: str
    weight: float
    files: int
    files_held_out: int
    """Files that data.eval names as well."""
    corpus: Corpus
    plan: Plan
    train: Windows
    held_out: Windows

    @property
    def documents_dropped(self) -> int:
        """Texts without a token, and documents shorter than data.min_length."""
        return self.corpus.manifest.documents_dropped + self.plan.documents_dropped


class Opener:
    """Opens what a job's config names, and prepares what is not prepared yet."""

    def __init__(self, job: ResolvedJob, tokenizer: Tokenizer, cache: Cache) -> None:
        self._job, self._tokenizer, self._cache = job, tokenizer, cache

    def training(self) -> list[Portion]:
        """The sources of data.train, without the files that data.eval names."""
        data = self._job.effective.data
        aside = held_out_files(data)
        return [
            self._open(one.name, one.weight, one.files, "data.train", aside, 0.0 if data.eval else data.eval_fraction)
            for one in data.sources()
        ]

    def evaluation(self) -> dict[str, Portion]:
        """The sets that data.eval names; all of each stands on the side of `train`."""
        sets = self._job.effective.data.eval_sets()
        return {name: self._open(name, 1.0, locations, _field(name), [], 0.0) for name, locations in sets.items()}

    def _open(
        self, name: str, weight: float, locations: list[str], field: str, aside: Collection[str], fraction: float
    ) -> Portion:
        config = self._job.effective
        if any(map(is_prepared, locations)):
            corpus, named, left_out = self._prepared(locations, field), locations, 0
        else:
            named, left_out = files_of(locations, field, aside)
            corpus = self._cache.corpus(named, config.data, self._tokenizer, field)
        corpus.check_tokenizer(self._tokenizer, field)
        question = question_of(self._job, fraction)
        plan, arrays = self._cache.plan(corpus, question)
        _check_documents(corpus, plan, config.data, field, named)
        train, held_out = (
            Windows(corpus, arrays[part], question.length, self._tokenizer.pad_id) for part in ("train", "held_out")
        )
        return Portion(name, weight, corpus.manifest.files, left_out, corpus, plan, train, held_out)

    def _prepared(self, locations: list[str], field: str) -> Corpus:
        if len(locations) > 1:
            raise UserError(
                f"{field}: {next(filter(is_prepared, locations))!r} is a prepared folder, which cannot share a list "
                "with other files: make each a source of its own, with name, files and weight"
            )
        return Corpus.open(Path(locations[0]).expanduser(), field)


def held_out_files(data: DataSection) -> list[str]:
    """The files that data.eval names, those of prepared folders aside."""
    return [
        file
        for name, locations in data.eval_sets().items()
        if not any(map(is_prepared, locations))
        for file in sources.expand(locations, _field(name))
    ]


def _field(name: str) -> str:
    """How the config names an evaluation set."""
    return "data.eval" if name == MAIN_SET else f"data.eval.{name}"


def question_of(job: ResolvedJob, fraction: float) -> Question:
    """What the job's windows depend on beside the corpus."""
    config = job.effective
    return Question(
        length=config.model.max_seq_len,
        min_length=config.data.min_length,
        eval_fraction=fraction,
        seed=config.run.seed if fraction else 0,
    )


def files_of(locations: list[str], field: str, aside: Collection[str]) -> tuple[list[str], int]:
    """The files that locations mean, without those set aside, and how many these were.

    Raises:
      UserError: there are none, or all are set aside.
    """
    matched = sources.expand(locations, field)
    files = [file for file in matched if file not in set(aside)]
    if not files:
        raise UserError(
            f"{field}: data.eval holds out every file of {some(matched)}, so nothing is left to train on: name others, "
            "or leave them out of data.eval"
        )
    return files, len(matched) - len(files)


def efficiency(counts: Counts, length: int) -> float:
    """Share of the windows' places that hold a target; 1 wastes nothing."""
    return (counts.tokens - counts.documents) / (counts.windows * length) if counts.windows else 0.0


def _check_documents(corpus: Corpus, plan: Plan, data: DataSection, field: str, named: list[str]) -> None:
    """Says so when no document is left, or the windows are poorly filled."""
    if not plan.train.documents:
        raise UserError(
            f"{field}: data.min_length {data.min_length} left out every document ({corpus.manifest.documents}) of "
            f"{some(named)}: lower it, or name files with longer documents"
        )
    filled = efficiency(plan.train, plan.question.length)
    if filled < _POOR and plan.train.windows > 1:
        _LOG.warning(
            "%s: the documents fill only %.0f%% of their windows: few of them fit into %d places beside each other; "
            "another model.max_seq_len wastes less",
            field, 100 * filled, plan.question.length,
        )  # fmt: skip
