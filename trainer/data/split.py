"""Which documents are held out for evaluation."""

from dataclasses import dataclass

import numpy as np

_UINT64 = 2.0**64


@dataclass(frozen=True, eq=False)
class Ranges:
    """Parts of the tokens that are documents, or the beginning or end of one."""

    starts: np.ndarray
    """int64 [documents]."""
    lengths: np.ndarray
    """int64 [documents]: tokens, at least 2."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def tokens(self) -> int:
        """Tokens of all of them."""
        return int(self.lengths.sum())

    def chosen(self, mask: np.ndarray) -> "Ranges":
        """Those where mask (bool [documents]) is true."""
        return Ranges(self.starts[mask], self.lengths[mask])


def held_out(digests: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Says of each document whether it is held out: bool [documents].

    A document's side depends on its text, the seed and the fraction alone, so copies stay together and adding files
    moves none of the others; yet of several documents neither side is left empty.

    Args:
      digests: uint64 [documents, 2], hashes of the texts.
      fraction: share to hold out; 0 holds out nothing.
      seed: another one holds out others.
    """
    if fraction == 0.0 or len(digests) < 2:
        return np.zeros(len(digests), bool)
    places = _places(digests, seed)
    mask = places < fraction
    if not mask.any():
        mask = places == places.min()
    if mask.all():
        # Only copies of one document, or a fraction near 1: keep the one that would come last.
        mask[int(np.argmax(places))] = False
    return mask


def without_tail(whole: Ranges, fraction: float) -> tuple[Ranges, Ranges]:
    """A single document as what is trained on, and its tail, which is held out unless it is too short to be cut."""
    start, length = int(whole.starts[0]), int(whole.lengths[0])
    cut = max(2, length - max(2, round(length * fraction)))
    if fraction == 0.0 or length - cut < 2:
        return whole, whole.chosen(np.zeros(1, bool))
    return _range(start, cut), _range(start + cut, length - cut)


def _range(start: int, length: int) -> Ranges:
    return Ranges(np.array([start], np.int64), np.array([length], np.int64))


def _places(digests: np.ndarray, seed: int) -> np.ndarray:
    """float64 [documents] in [0, 1), drawn from each document's hash and the seed."""
    keyed = digests[:, 0] ^ _mixed(digests[:, 1] + _mixed(np.array([seed], np.uint64)))
    return _mixed(keyed) / _UINT64


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
