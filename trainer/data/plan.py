"""Which windows a corpus is trained and evaluated in, worked out once and kept beside it.

    plan.json         Plan: what was asked for, and what came of it
    train.starts      int64 [pieces], train.lengths  int32 [pieces], train.firsts  int64 [windows + 1]: packing.Packed
    held_out.*        the same of what is held out

A plan follows from the corpus and the Question alone. It is memory-mapped, so opening one costs the same for any size.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic import ValidationError

from trainer.data.packing import Packed, pack
from trainer.data.prepare import write_durably
from trainer.data.shards import Corpus, map_array
from trainer.data.split import Ranges, held_out, without_tail
from vishwamai.contract.base import Value

FORMAT = 1
"""Of the files and of the rules that lead to them: another number, another plan."""
_PLAN = "plan.json"
_PARTS = ("train", "held_out")
_ARRAYS = {"starts": "<i8", "lengths": "<i4", "firsts": "<i8"}

_LOG = logging.getLogger(__name__)


class Question(Value):
    """What a plan depends on beside the corpus."""

    length: int
    """T, the places in a window."""
    min_length: int
    eval_fraction: float
    """0: nothing is held out."""
    seed: int
    format: int = FORMAT

    @property
    def name(self) -> str:
        """A folder's name for the plan."""
        return f"{self.length}-{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]}"


class Counts(Value):
    """What one side of the division holds."""

    documents: int = 0
    tokens: int = 0
    pieces: int = 0
    windows: int = 0


class Plan(Value):
    """What was asked for, and what came of it."""

    question: Question
    corpus: str
    """Fingerprint of the corpus."""
    train: Counts
    held_out: Counts
    split: str
    """How the sides were told apart."""
    documents_dropped: int
    """Documents shorter than min_length."""
    bytes_dropped: int
    fingerprint: str
    """sha256 over the hashes of the documents that are trained on, in order."""


def open_plan(folder: Path, corpus: Corpus, question: Question) -> tuple[Plan, dict[str, Packed]] | None:
    """The plan in a folder and its arrays, by 'train' and 'held_out'; None where there is none, or not a whole one."""
    try:
        plan = Plan.model_validate_json((folder / _PLAN).read_bytes())
        arrays = {part: _mapped(folder, part, getattr(plan, part)) for part in _PARTS}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValidationError, ValueError, OSError) as error:
        _LOG.warning("the windows in %r are not usable (%s), and are worked out anew", str(folder), error)
        return None
    return (plan, arrays) if (plan.question, plan.corpus) == (question, corpus.fingerprint) else None


def make_plan(folder: Path, corpus: Corpus, question: Question) -> None:
    """Works a plan out and puts it into `folder`, in place of any other. Nobody else may be at work on it."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    documents = [corpus.documents(shard) for shard in range(len(corpus.manifest.shards))]
    kept = [one["tokens"] > max(question.min_length, 1) for one in documents]
    digests = np.concatenate([one["digest"][mask] for one, mask in zip(documents, kept, strict=True)])
    held = held_out(digests, question.eval_fraction, question.seed)
    alone = len(digests) == 1 and question.eval_fraction > 0
    digest = hashlib.sha256(digests[~held].tobytes())
    counts, dropped = {part: Counts() for part in _PARTS}, 0
    with _Files(partial) as files:
        for sides, bytes_dropped in _divided(documents, kept, held, question.eval_fraction if alone else 0.0):
            dropped += bytes_dropped
            for part, ranges in zip(_PARTS, sides, strict=True):
                counts[part] = _add(counts[part], ranges, files.write(part, ranges, question.length))
    if alone:
        digest.update(str(counts["train"].tokens).encode())
    plan = Plan(
        question=question,
        corpus=corpus.fingerprint,
        **counts,
        split="tail of the only document" if alone else "by document",
        documents_dropped=corpus.manifest.documents - len(digests),
        bytes_dropped=dropped,
        fingerprint=digest.hexdigest(),
    )
    write_durably(partial / _PLAN, (plan.model_dump_json(indent=1) + "\n").encode())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _divided(
    documents: list[np.ndarray], kept: list[np.ndarray], held: np.ndarray, tail: float
) -> Iterator[tuple[tuple[Ranges, Ranges], int]]:
    """For each shard what is trained on and what is held out, and the bytes of the documents that are neither.

    Args:
      documents: DOCUMENT of each shard.
      kept: bool of each shard's documents: which are long enough.
      held: bool of all kept documents.
      tail: share of the only document that is held out, or 0.
    """
    first = seen = 0
    for one, mask in zip(documents, kept, strict=True):
        lengths = one["tokens"].astype(np.int64)
        ends = first + np.cumsum(lengths)
        ranges = Ranges(ends - lengths, lengths).chosen(mask)
        aside = held[seen : seen + len(ranges)]
        sides = without_tail(ranges, tail) if tail and len(ranges) else (ranges.chosen(~aside), ranges.chosen(aside))
        yield sides, int(one["bytes"][~mask].sum())
        first, seen = int(ends[-1]), seen + len(ranges)


def _add(counts: Counts, ranges: Ranges, made: tuple[int, int]) -> Counts:
    return Counts(
        documents=counts.documents + len(ranges),
        tokens=counts.tokens + ranges.tokens,
        pieces=counts.pieces + made[0],
        windows=counts.windows + made[1],
    )


class _Files:
    """The arrays of both parts, growing."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, BinaryIO] = {
            f"{part}.{name}": (folder / f"{part}.{name}").open("wb") for part in _PARTS for name in _ARRAYS
        }
        self._pieces = dict.fromkeys(_PARTS, 0)
        for part in _PARTS:
            self._files[f"{part}.firsts"].write(np.zeros(1, _ARRAYS["firsts"]).tobytes())

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()

    def write(self, part: str, ranges: Ranges, window: int) -> tuple[int, int]:
        """Packs documents and appends what comes of it: how many pieces and windows."""
        pieces = windows = 0
        for packed in pack(ranges.starts, ranges.lengths, window):
            arrays = {
                "starts": packed.starts,
                "lengths": packed.lengths,
                "firsts": packed.firsts[1:] + self._pieces[part],
            }
            for name, array in arrays.items():
                self._files[f"{part}.{name}"].write(array.astype(_ARRAYS[name]).tobytes())
            self._pieces[part] += len(packed.starts)
            pieces += len(packed.starts)
            windows += len(packed.firsts) - 1
        return pieces, windows


def _mapped(folder: Path, part: str, counts: Counts) -> Packed:
    """The arrays of a part. Raises ValueError when a file is not as long as it should be."""
    lengths = {"starts": counts.pieces, "lengths": counts.pieces, "firsts": counts.windows + 1}
    return Packed(**{name: _map(folder / f"{part}.{name}", _ARRAYS[name], length) for name, length in lengths.items()})


def _map(path: Path, dtype: str, length: int) -> np.ndarray:
    if path.stat().st_size != length * np.dtype(dtype).itemsize:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes")
    return map_array(path, np.dtype(dtype), length)
