"""Windows of a prepared corpus as arrays."""

import numpy as np

from trainer.batch import Batch
from trainer.data.packing import Packed
from trainer.data.shards import Corpus


class Windows:
    """The packed windows of a corpus's documents: `count` of them, each of `length` (T) places."""

    def __init__(self, corpus: Corpus, packed: Packed, length: int, pad_id: int) -> None:
        self._corpus = corpus
        self._packed = packed
        self.length = length
        self.pad_id = pad_id
        self.count = len(packed.firsts) - 1

    def rows(self, numbers: np.ndarray) -> Batch:
        """The windows of these numbers (int [rows]); a number of `count` or more gives a row of padding."""
        shape = (len(numbers), self.length)
        inputs, targets = np.full(shape, self.pad_id, np.int32), np.full(shape, self.pad_id, np.int32)
        segments, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for row, number in enumerate(numbers.tolist()):
            at = 0
            for segment, (start, length) in enumerate(self._pieces(number), start=1):
                tokens = self._corpus.tokens(start, length + 1)
                here = slice(at, at + length)
                inputs[row, here] = tokens[:-1]
                targets[row, here] = tokens[1:]
                segments[row, here] = segment
                at += length
            weights[row, :at] = 1
        return Batch(inputs, targets, segments, weights)

    def _pieces(self, number: int) -> list[tuple[int, int]]:
        if number >= self.count:
            return []
        first, end = self._packed.firsts[number : number + 2].tolist()
        return list(zip(self._packed.starts[first:end].tolist(), self._packed.lengths[first:end].tolist(), strict=True))
