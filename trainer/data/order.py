"""Which window comes when: a pure function of the position, by Grain.

A source's windows are shuffled anew in every epoch, and its epochs follow one another without a gap. A mixture takes
from its sources by their weights, evenly: among the first n windows there are n w_i / sum(w) of source i, to within
one. Element i is found without the elements before it, so it does not matter where a run starts or how many hosts ask.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import grain
import numpy as np

_FEW = 2**16
"""Windows whose order is drawn as a whole. Grain's shuffle walks through at least so many places to find one: 4 ms of
them for an element of ten."""


@dataclass(frozen=True)
class Source:
    """Windows that are numbered in a row."""

    first: int
    count: int
    weight: float


class Order:
    """The numbers of the windows in the order of training, without end."""

    def __init__(self, sources: Sequence[Source], seed: int, *, shuffle: bool) -> None:
        parts = [_endless(source, [seed, number], shuffle) for number, source in enumerate(sources)]
        weights = [source.weight for source in sources]
        self._shares = _integers(weights)
        self._sources, self._parts = sources, parts
        self._order: Any = parts[0] if len(parts) == 1 else grain.MapDataset.mix(parts, weights)
        self._order[0]  # Grain sets its counters up at the first use, which must not happen in two threads at once

    def __getitem__(self, position: int) -> int:
        """The window at a position, from 0."""
        return int(self._order[position])

    def share(self, source: int) -> float:
        """The share of a source that takes effect; the weights are rounded to a hundredth of the least of them."""
        return self._shares[source] / sum(self._shares)

    def counts(self, positions: int) -> list[int]:
        """How many windows of each source there are among the first `positions`."""
        counts, rest, left = [], sum(self._shares), positions
        for share in self._shares:
            after = left * (rest - share) // rest  # as Grain counts
            counts.append(left - after)
            rest, left = rest - share, after
        return counts

    def visited(self, positions: int) -> np.ndarray:
        """int64, ascending: the windows at the first `positions`; whole sources are not walked through."""
        found = []
        for source, part, count in zip(self._sources, self._parts, self.counts(positions), strict=True):
            numbers = range(source.first, source.first + source.count)
            found.append(sorted(numbers if count >= source.count else (int(part[place]) for place in range(count))))
        return np.unique(np.concatenate([np.asarray(part, np.int64) for part in found]))


def _endless(source: Source, seed: list[int], shuffle: bool) -> Any:
    numbers = grain.MapDataset.range(source.first, source.first + source.count)
    if not shuffle:
        return numbers.repeat()
    if source.count < _FEW:
        return grain.MapDataset.source(_Drawn(source, seed))
    return numbers.seed(int(np.random.SeedSequence(seed).generate_state(1)[0])).shuffle().repeat()


class _Drawn:
    """Few windows, in an order that is drawn for every epoch."""

    def __init__(self, source: Source, seed: list[int]) -> None:
        self._source, self._seed = source, seed
        self._order_of = lru_cache(maxsize=4)(self._draw)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(int(position), self._source.count)
        return self._source.first + int(self._order_of(epoch)[place])

    def _draw(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([*self._seed, epoch]).permutation(self._source.count)


def _integers(weights: Sequence[float]) -> list[int]:
    """Weights as Grain's mix takes them."""
    return [int(weight * (100 / min(weights))) for weight in weights]
