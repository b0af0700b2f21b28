import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.data.corpora import documents_of, pieces_of
from trainer.data.packing import Windows

PAD = 0


def test_the_example_of_the_module():
    windows = Windows(documents_of(4, 3), length=4, pad_id=PAD)
    batch = windows.rows(np.arange(windows.count))
    assert batch.inputs.tolist() == [[2, 3, 4, 5], [6, 0, 0, 0]]
    assert batch.targets.tolist() == [[3, 4, 1, 6], [1, 0, 0, 0]]
    assert batch.segments.tolist() == [[1, 1, 1, 2], [1, 0, 0, 0]]
    assert batch.weights.tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert [field.dtype for field in batch[:4]] == [np.int32] * 3 + [np.float32]


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30),
    window=st.integers(2, 16),
)
def test_no_token_is_lost_or_repeated(lengths, window):
    """The pieces of a document, joined where one ends and the next begins, are the document."""
    documents = documents_of(*lengths)
    windows = Windows(documents, window, PAD)
    rebuilt: list[list[int]] = []
    for piece in pieces_of(windows.rows(np.arange(windows.count))):
        if rebuilt and rebuilt[-1][-1] != 1:
            assert rebuilt[-1][-1] == piece[0]
            rebuilt[-1] += piece[1:]
        else:
            rebuilt.append(piece)
    assert rebuilt == [documents.document(i).tolist() for i in range(len(documents))]


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=30),
    window=st.integers(2, 16),
)
def test_windows_are_full_but_for_the_end_of_the_last(lengths, window):
    windows = Windows(documents_of(*lengths), window, PAD)
    weights = windows.rows(np.arange(windows.count)).weights
    targets = sum(lengths) - len(lengths)
    assert weights.ravel().tolist() == [1] * targets + [0] * (weights.size - targets)
    assert windows.count == -(-targets // window)
    assert windows.efficiency == targets / weights.size


def test_a_number_beyond_the_last_window_is_a_row_of_padding():
    windows = Windows(documents_of(5), length=4, pad_id=9)
    batch = windows.rows(np.array([0, 1]))
    assert batch.weights.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    assert batch.inputs[1].tolist() == batch.targets[1].tolist() == [9, 9, 9, 9]
    assert batch.segments[1].tolist() == [0, 0, 0, 0]
