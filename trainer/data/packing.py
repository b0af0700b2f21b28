r"""Documents to full windows, without losing or repeating a target.

A document of n tokens t_0 .. t_{n-1} (eos last) holds n - 1 pairs (input t_i, target t_{i+1}). The pairs of all
documents, end to end, are cut every T pairs:

    documents   a b c $   d e $            T = 4
    inputs      a b c d | e . . .          row 0: segments 1 1 1 2
    targets     b c $ e | $ . . .          row 1: segments 1 0 0 0

So every token but a document's first is a target exactly once, and eos is never an input. A document that a cut divides
goes on in the next window as a piece of its own: segment 1, attention starting afresh. Only the last
window can be short; its end is padding with segment 0 and weight 0.

Nothing is laid out in advance: pair p of document d is tokens[p + d], tokens[p + d + 1], and d is found by bisection in
the numbers of the documents' first pairs.
"""

from functools import cached_property

import numpy as np

from trainer.batch import Batch
from trainer.data.documents import Documents


class Windows:
    """The packed windows of some documents: `count` of them, each `length` (T) pairs long."""

    def __init__(self, documents: Documents, length: int, pad_id: int) -> None:
        self.documents = documents
        self.length = length
        self.pad_id = pad_id
        self.pairs = len(documents.tokens) - len(documents)
        self.count = -(-self.pairs // length)

    @property
    def efficiency(self) -> float:
        """Share of the windows' places that hold a target; 1 wastes nothing."""
        return self.pairs / (self.count * self.length) if self.count else 0.0

    @cached_property
    def _first_pairs(self) -> np.ndarray:
        """int64 [documents]: the number of each document's first pair."""
        return self.documents.offsets[:-1] - np.arange(len(self.documents))

    def rows(self, indices: np.ndarray) -> Batch:
        """The windows of these numbers (int [rows]); a number of `count` or more gives a row of padding."""
        starts = indices.astype(np.int64)[:, None] * self.length
        pairs = starts + np.arange(self.length)
        real = pairs < self.pairs
        pairs = np.minimum(pairs, self.pairs - 1)
        document = np.searchsorted(self._first_pairs, pairs, side="right") - 1
        token = pairs + document
        segments = document - document[:, :1] + 1
        return Batch(
            inputs=np.where(real, self.documents.tokens[token], self.pad_id).astype(np.int32),
            targets=np.where(real, self.documents.tokens[token + 1], self.pad_id).astype(np.int32),
            segments=np.where(real, segments, 0).astype(np.int32),
            weights=real.astype(np.float32),
        )
