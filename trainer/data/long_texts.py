"""The ids of a text that is too long to be tokenized in one go.

The libraries keep some hundred bytes for each character while they work, so a text of 200 MB would take gigabytes. It
is cut into windows that overlap, each is encoded by itself, and neighbours are joined inside their overlap: at a place
where a token begins in both and the tokens on both sides of it are the same for a while. What a tokenizer does there no
longer depends on where its window begins or ends, because words and merges look only at what is near; so the ids are
those of the whole text. Where two windows agree nowhere, the overlap grows, up to the whole text.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tokenizers as huggingface

LONGEST = 2**20
"""Characters of a window, and of texts that are encoded in one go."""
_OVERLAP = 2**12
_AGREEING = 16
"""Tokens on each side of a joint that are the same in both windows."""


class _Window(NamedTuple):
    """Tokens in the order of the text; places are characters of the whole text."""

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def cut(self, first: int, stop: int) -> "_Window":
        return _Window(self.ids[first:stop], self.starts[first:stop], self.ends[first:stop])


def encode_long(
    encode: Callable[[str], huggingface.Encoding], text: str, longest: int, overlap: int = _OVERLAP
) -> np.ndarray:
    """int32 [tokens]: the ids of `text`, encoded in windows of `longest` characters."""
    if len(text) <= longest or overlap >= longest // 2:
        return np.array(encode(text).ids, np.int32)
    found: list[np.ndarray] = []
    before = _window(encode, text, 0, longest)
    start = 0
    while start + longest < len(text):
        start += longest - overlap
        after = _window(encode, text, start, longest)
        joint = _joint(before, after, start + overlap // 2)
        if joint is None:
            return encode_long(encode, text, longest, 4 * overlap)
        found.append(before.ids[: joint[0]])
        before = after.cut(joint[1], len(after.ids))
    return np.concatenate([*found, before.ids])


def _window(encode: Callable[[str], huggingface.Encoding], text: str, start: int, size: int) -> _Window:
    encoding = encode(text[start : start + size])
    places = np.array(encoding.offsets, np.int64).reshape(-1, 2) + start
    return _Window(np.array(encoding.ids, np.int32), places[:, 0], places[:, 1])


def _joint(before: _Window, after: _Window, middle: int) -> tuple[int, int] | None:
    """How many tokens of `before` come first, and how many of `after` are left out; the joint nearest to `middle`."""
    first_of: dict[int, int] = {}
    for number, start in enumerate(
        after.starts[: np.searchsorted(after.starts, before.ends[-1:].max(initial=0))].tolist()
    ):
        first_of.setdefault(start, number)
    lowest = int(np.searchsorted(before.starts, after.starts[0])) if len(after.starts) else len(before.starts)
    candidates = range(max(lowest, 1), len(before.ids))
    for number in sorted(candidates, key=lambda number: abs(int(before.starts[number]) - middle)):
        other = first_of.get(int(before.starts[number]))
        if other is not None and _agree(before, after, number, other):
            return number, other
    return None


def _agree(before: _Window, after: _Window, number: int, other: int) -> bool:
    """Whether the tokens around two places are the same, and none reaches over the place."""
    least = min(number, other)
    if least < _AGREEING or min(len(before.ids) - number, len(after.ids) - other) < _AGREEING:
        return False
    one = before.cut(number - _AGREEING, number + _AGREEING)
    two = after.cut(other - _AGREEING, other + _AGREEING)
    whole = before.ends[number - 1] <= before.starts[number] and before.starts[number - 1] < before.starts[number]
    return bool(whole) and all(np.array_equal(x, y) for x, y in zip(one, two, strict=True))
