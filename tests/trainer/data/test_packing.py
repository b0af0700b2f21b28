from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.data.corpora import Tokens, pieces_of, windows_of
from trainer.data import builtin
from trainer.data.packing import best_fit, pack

LENGTHS = st.lists(st.integers(2, 40), min_size=1, max_size=30)


def test_the_example_of_the_module():
    windows = windows_of(Tokens(6, 3, 2), length=4)
    batch = windows.rows(np.arange(windows.count))
    assert batch.inputs.tolist() == [[2, 3, 4, 5], [6, 7, 8, 9]]
    assert batch.targets.tolist() == [[3, 4, 5, 6], [1, 8, 1, 1]]
    assert batch.segments.tolist() == [[1, 1, 1, 1], [1, 2, 2, 3]]
    assert batch.weights.tolist() == [[1, 1, 1, 1]] * 2
    assert [field.dtype for field in batch[:4]] == [np.int32] * 3 + [np.float32]


@given(lengths=LENGTHS, window=st.integers(2, 16), block=st.integers(1, 30))
def test_no_token_is_lost_or_repeated(lengths, window, block):
    """Every token but a document's first is a target once, behind the token before it, in a piece of one document."""
    documents = Tokens(*lengths)
    windows = windows_of(documents, window, block=block)
    pieces = pieces_of(windows.rows(np.arange(windows.count)))
    pairs = [pair for piece in pieces for pair in pairwise(piece)]
    expected = [pair for one in documents.documents for pair in pairwise(one)]
    assert sorted(pairs) == sorted(expected)
    assert all(1 not in piece[:-1] for piece in pieces), "the end token is never an input"


@given(lengths=LENGTHS, window=st.integers(2, 16))
def test_windows_are_never_longer_and_never_empty(lengths, window):
    windows = windows_of(Tokens(*lengths), window)
    used = windows.rows(np.arange(windows.count)).weights.sum(axis=1)
    assert (used >= 1).all()
    assert used.sum() == sum(lengths) - len(lengths)


@given(lengths=LENGTHS, window=st.integers(2, 16), block=st.integers(1, 30))
def test_the_same_documents_give_the_same_windows(lengths, window, block):
    ranges = Tokens(*lengths).ranges
    for one, other in zip(
        pack(ranges.starts, ranges.lengths, window, block),
        pack(ranges.starts, ranges.lengths, window, block),
        strict=True,
    ):
        for name in ("starts", "lengths", "firsts"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(sizes=st.lists(st.integers(1, 20), max_size=60))
def test_best_fit(sizes):
    """No bin is overfull, and all but one are more than half full: two that were not would have been one."""
    bins = best_fit(np.array(sizes, np.int64), 20)
    loads = np.bincount(bins, weights=sizes, minlength=1)
    assert loads.max(initial=0) <= 20
    assert (loads <= 10).sum() <= 1
    assert set(bins.tolist()) == set(range(bins.max(initial=-1) + 1)), "none is empty"


def test_windows_come_in_the_order_of_the_text():
    windows = windows_of(Tokens(9, 3, 12, 2, 5), length=4)
    firsts = [pieces[0][0] for n in range(windows.count) if (pieces := pieces_of(windows.rows(np.array([n]))))]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("length", [128, 2048])
def test_the_demo_corpus_fills_its_windows(length):
    lengths = np.array([len(text.encode()) + 1 for text in builtin.documents() if text], np.int64)
    (packed,) = pack(np.cumsum(lengths) - lengths, lengths, length)
    assert (lengths - 1).sum() / ((len(packed.firsts) - 1) * length) >= 0.98


def test_a_number_beyond_the_last_window_is_a_row_of_padding():
    batch = windows_of(Tokens(5), length=4, pad_id=9).rows(np.array([0, 1]))
    assert batch.weights.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    assert batch.inputs[1].tolist() == batch.targets[1].tolist() == [9, 9, 9, 9]
    assert batch.segments[1].tolist() == [0, 0, 0, 0]
