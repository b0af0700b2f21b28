"""A batch's text as another tokenizer reads it: the teacher's side of each window.

    window   segment 1: na ï ve |   segment 2: fox $        the student's tokens, and the last target
    bytes    "naïve"                "fox"                   what both read
    teacher  <bos> naïve            <bos> f ox              one row of teacher_seq_len, numbered by segment
    pair     each student position's place in that row, -1 where the teacher has no boundary

A segment is read by itself, from its first whole character to its last. Where the teacher's tokens do not give back the
bytes (a normalizer composed a letter, say), pairs end at the first difference; a space that the tokenizer puts before
every text is not counted. Tokens behind the last pair are of no use and left out; what then does not fit the row is
cut off, and counted.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from trainer.batch import Batch
from trainer.data.tokenizers import Tokenizer
from trainer.distill.alignment import agreement, ends, pairs

_LOG = logging.getLogger(__name__)
_CONTINUING = bytes(range(0x80, 0xC0))
"""Bytes that begin no character: at the start of a window, what is left of one that began before it."""


class _Segment(NamedTuple):
    """A piece of a document in a window."""

    row: int
    start: int
    stop: int
    number: int
    read: np.ndarray
    """int64 [stop - start]: bytes that the student has read at each position."""
    skipped: int
    """Bytes before the first whole character."""
    content: bytes
    """From there on."""


class _Reading(NamedTuple):
    """A segment in the teacher's tokens."""

    segment: _Segment
    tokens: list[int]
    pair: np.ndarray
    """int32 [positions of the segment]: indices of `tokens`, or -1."""


class Retold:
    """Reads batches for a teacher with a tokenizer of its own."""

    def __init__(self, student: Tokenizer, teacher: Tokenizer, seq_len: int) -> None:
        self._student, self._teacher, self.seq_len = student, teacher, seq_len
        self._texts = student.pieces().texts
        self._pieces = teacher.pieces()
        self._puts_space = self._bytes_of(teacher.encode("a").tolist()) == b" a"
        self._told = False

    def lesson(self, batch: Batch) -> dict[str, np.ndarray]:
        """teacher_inputs and teacher_segments int32 [B, seq_len], and pair int32 [B, T]."""
        B, T = batch.inputs.shape
        inputs, segments = np.zeros((B, self.seq_len), np.int32), np.zeros((B, self.seq_len), np.int32)
        pair, filled, lost = np.full((B, T), -1, np.int32), np.zeros(B, np.int64), 0
        for segment, tokens, places in self._readings(batch):
            first = filled[segment.row]
            kept = tokens[: self.seq_len - first]
            lost += len(tokens) - len(kept)
            here = slice(first, first + len(kept))
            inputs[segment.row, here], segments[segment.row, here] = kept, segment.number
            fits = (places >= 0) & (places < len(kept))
            pair[segment.row, segment.start : segment.stop] = np.where(fits, first + places, -1)
            filled[segment.row] += len(kept)
        if lost and not self._told:
            self._told = True
            _LOG.warning(
                "distillation.teacher_seq_len %d is too short for all that the teacher reads: %d of its tokens of this "
                "step were cut off, and positions there follow no teacher (loss part `paired`)", self.seq_len, lost
            )  # fmt: skip
        return {"teacher_inputs": inputs, "teacher_segments": segments, "pair": pair}

    def lengths(self, batch: Batch) -> np.ndarray:
        """int64 [B]: the teacher's tokens of each window."""
        found = np.zeros(len(batch.inputs), np.int64)
        for segment, tokens, _ in self._readings(batch):
            found[segment.row] += len(tokens)
        return found

    def _readings(self, batch: Batch) -> Iterator[_Reading]:
        segments = list(self._segments(batch))
        texts = [segment.content.decode(errors="ignore") for segment in segments]
        for segment, ids in zip(segments, self._teacher.encode_many(texts), strict=True):
            reading = self._reading(segment, ids.tolist())
            if reading.tokens:
                yield reading

    def _reading(self, segment: _Segment, ids: list[int]) -> _Reading:
        texts, prefix = [self._pieces.texts[token] for token in ids], list(self._pieces.prefix)
        joined = b"".join(texts)
        extra = int(self._puts_space and agreement(joined[1:], segment.content) >= agreement(joined, segment.content))
        read = np.maximum(ends(texts) - extra, 0) + segment.skipped
        most = segment.skipped + agreement(joined[extra:], segment.content)
        # Who has read only a mark, or part of a character, knows nothing that the other does.
        theirs = np.concatenate([np.full(len(prefix), -1), np.where(read > segment.skipped, read, -1)])
        pair = pairs(segment.read, theirs, most)
        return _Reading(segment, (prefix + ids)[: int(pair.max(initial=-1)) + 1], pair)

    def _segments(self, batch: Batch) -> Iterator[_Segment]:
        inputs, targets, numbers = (np.asarray(field) for field in batch[:3])
        for row in range(len(inputs)):
            cuts = np.flatnonzero(np.diff(numbers[row], prepend=0, append=0))
            for start, stop in pairwise(cuts.tolist()):
                if number := int(numbers[row, start]):
                    yield self._segment(row, start, stop, number, inputs[row], int(targets[row, stop - 1]))

    def _segment(self, row: int, start: int, stop: int, number: int, inputs: np.ndarray, last: int) -> _Segment:
        texts = [self._texts[token] for token in inputs[start:stop].tolist()]
        read = ends(texts)
        if last != self._student.eos_id:
            # A piece that goes on: its next token, so that the text does not seem to end in the middle of a word.
            texts.append(self._texts[last])
        whole = b"".join(texts)
        skipped = len(whole) - len(whole.lstrip(_CONTINUING))
        return _Segment(row, start, stop, number, read, skipped, whole[skipped:])

    def _bytes_of(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._pieces.texts[token] for token in ids)
