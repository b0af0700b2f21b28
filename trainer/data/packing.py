r"""Documents to windows of T places, without losing or repeating a target.

A document of n tokens t_0 .. t_{n-1} (eos last) holds n - 1 pairs (input t_i, target t_{i+1}). It is cut every T
pairs, and the pieces are put together into windows, each piece a segment of its own:

    documents   a b c d e $   f g $   h $            T = 4
    pieces      a>b b>c c>d d>e | e>$ | f>g g>$ | h>$
    inputs      a b c d | f g e h                    row 0: segments 1 1 1 1
    targets     b c d e | g $ $ $                    row 1: segments 1 1 2 3

So every token but a document's first is a target exactly once, eos is never an input, and attention never crosses
documents. A piece of T pairs fills a window. The others are taken from long to short, each into the window where it
leaves the least space (best-fit decreasing: at most 11/9 of the fewest windows possible, Johnson 1973), block by block
of consecutive documents, which bounds the memory. Nothing is random: the same documents give the same windows.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK = 2**16
"""Documents that are packed together."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Windows as lists of pieces: window w is made of the pieces firsts[w]:firsts[w + 1]."""

    starts: np.ndarray
    """int64 [pieces]: where each piece's first input stands among the tokens."""
    lengths: np.ndarray
    """int32 [pieces]: its pairs."""
    firsts: np.ndarray
    """int64 [windows + 1]."""


def pack(starts: np.ndarray, lengths: np.ndarray, window: int, block: int = BLOCK) -> Iterator[Packed]:
    """The windows of documents, block by block.

    Args:
      starts: int64 [documents]: where each begins among the tokens.
      lengths: int64 [documents]: its tokens, at least 2.
      window: T, the pairs that a window holds.
      block: documents that are packed together.
    """
    for first in range(0, len(starts), block):
        some = slice(first, first + block)
        yield _pack_block(starts[some], lengths[some] - 1, window)


def best_fit(sizes: np.ndarray, space: int) -> np.ndarray:
    """int64 [items]: the bin of each item, bins of `space` filled from the largest item to the smallest.

    Each goes where it leaves the least room; bins of one free space are taken newest first.
    """
    bins = np.empty(len(sizes), np.int64)
    order = np.argsort(-sizes, kind="stable")
    free: defaultdict[int, list[int]] = defaultdict(list)
    rooms: list[int] = []  # the keys of `free` that hold a bin, sorted
    found: list[int] = []
    opened = 0
    for size in sizes[order].tolist():
        place = bisect_left(rooms, size)
        if place < len(rooms):
            room = rooms[place]
            bin_ = free[room].pop()
            if not free[room]:
                del rooms[place]
        else:
            bin_, room, opened = opened, space, opened + 1
        if left := room - size:
            if not free[left]:
                insort(rooms, left)
            free[left].append(bin_)
        found.append(bin_)
    bins[order] = found
    return bins


def _pack_block(starts: np.ndarray, pairs: np.ndarray, window: int) -> Packed:
    whole, rest = np.divmod(pairs, window)
    of_whole = np.repeat(starts, whole)
    within = np.arange(len(of_whole)) - np.repeat(np.cumsum(whole) - whole, whole)
    tails = np.flatnonzero(rest)
    bins = best_fit(rest[tails], window)
    piece_starts = np.concatenate([of_whole + within * window, (starts + whole * window)[tails]]).astype(np.int64)
    piece_lengths = np.concatenate([np.full(len(of_whole), window), rest[tails]]).astype(np.int32)
    bins = np.concatenate([np.arange(len(of_whole)), bins + len(of_whole)])
    return _in_reading_order(piece_starts, piece_lengths, bins)


def _in_reading_order(starts: np.ndarray, lengths: np.ndarray, bins: np.ndarray) -> Packed:
    """Pieces in a window by where they stand in the text, windows by their first piece."""
    count = int(bins.max(initial=-1)) + 1
    earliest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(earliest, bins, starts)
    rank = np.empty(count, np.int64)
    rank[np.argsort(earliest, kind="stable")] = np.arange(count)
    order = np.lexsort((starts, rank[bins]))
    firsts = np.concatenate([[0], np.cumsum(np.bincount(rank[bins], minlength=count))]).astype(np.int64)
    return Packed(starts[order], lengths[order], firsts)
