"""Corpora written by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers

from tests.trainer.jobs import tiny_job
from trainer.batch import Batch
from trainer.data import TrainingData, open_data
from trainer.data.packing import Packed, pack
from trainer.data.split import Ranges
from trainer.data.windows import Windows

TEXTS = [f"{n}: " + " ".join(str((n * 7919 + i) ** 2) for i in range(n % 5 * 10 + 1)) for n in range(40)]
"""Documents of 3 to 400 characters, in which no two windows are alike."""


def write_jsonl(path: Path, texts: list[str], field: str = "text") -> Path:
    path.write_text("".join(json.dumps({field: text, "source": "test"}) + "\n" for text in texts))
    return path


def write_parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def write_tokenizer(path: Path) -> Path:
    """A word-level tokenizer.json of five words and two specials."""
    words = ["<pad>", "</s>", "<unk>", "to", "be", "or", "not"]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(path))
    return path


def open_corpus(*train: Path | str, output: Path | None = None, **sections: Any) -> TrainingData:
    """The data of a tiny job on these files; `data` and other sections as in a config.

    What is prepared goes to `output`, or beside the first file.
    """
    data = {"train": [str(path) for path in train]} | sections.pop("data", {})
    job = tiny_job(**{"data": data, "logging": {"eval_every": 0}} | sections)
    return open_data(job, output or Path(train[0]).parent / "out")


def held_out_texts(data: TrainingData) -> str:
    """What the evaluation reads, as one text."""
    return "".join(data.tokenizer.decode(piece) + "|" for batch in data.eval_batches() for piece in pieces_of(batch))


class Tokens:
    """A corpus in memory: documents of so many tokens: ids 2, 3, 4, ... through all of them, each ended by 1."""

    def __init__(self, *lengths: int) -> None:
        self.documents: list[list[int]] = []
        first = 2
        for length in lengths:
            self.documents.append([*range(first, first + length - 1), 1])
            first += length - 1
        self._all = np.array([token for document in self.documents for token in document])
        ends = np.cumsum(lengths, dtype=np.int64)
        self.ranges = Ranges(ends - np.array(lengths, np.int64), np.array(lengths, np.int64))

    def tokens(self, start: int, count: int) -> np.ndarray:
        return self._all[start : start + count]


def windows_of(documents: Tokens, length: int, pad_id: int = 0, **options: int) -> Windows:
    """The windows of documents in memory."""
    blocks = list(pack(documents.ranges.starts, documents.ranges.lengths, length, **options))
    pieces = np.cumsum([0, *(len(block.starts) for block in blocks)])
    firsts = [np.zeros(1, np.int64), *(block.firsts[1:] + n for block, n in zip(blocks, pieces[:-1], strict=True))]
    starts, lengths = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("starts", "lengths"))
    return Windows(documents, Packed(starts, lengths, np.concatenate(firsts)), length, pad_id)  # type: ignore[arg-type]


def pieces_of(batch: Batch) -> list[list[int]]:
    """The tokens of each piece, read from segments and weights alone: its inputs and its last target."""
    pieces = []
    for row in zip(*(np.asarray(field) for field in batch[:4]), strict=True):
        inputs, targets, segments, weights = row
        for number in range(1, segments.max(initial=0) + 1):
            here = np.flatnonzero(segments == number)
            assert (np.diff(here) == 1).all(), "a piece is contiguous"
            assert (weights[here] == 1).all()
            assert (inputs[here][1:] == targets[here][:-1]).all()
            pieces.append([*inputs[here].tolist(), int(targets[here][-1])])
        assert (weights[segments == 0] == 0).all()
    return pieces
