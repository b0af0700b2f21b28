"""Two readings of one text: where they meet, by byte counts and by the bytes themselves."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.test_pieces import tokenizer_of
from tests.trainer.data.tokenizer_files import TEXTS, byte_level
from trainer.batch import Batch
from trainer.data.tokenizers import open_tokenizer
from trainer.distill.alignment import agreement, ends, pairs
from trainer.distill.retold import Retold
from vishwamai.contract.config import SequenceSection

CUTS = st.lists(st.binary(max_size=3), max_size=12)


def test_the_example_of_the_head():
    student, teacher = ends([b"na", "ï".encode(), b"ve", b" ", b"fox"]), ends(["naïve".encode(), b" f", b"ox"])
    assert pairs(student, teacher).tolist() == [-1, -1, 0, -1, 2]


@given(CUTS, CUTS, st.integers(0, 30))
def test_pairs_are_all_common_boundaries_and_no_others(one, other, most):
    student, teacher = ends(one), ends(other)
    found = pairs(student, teacher, most)
    for i, j in enumerate(found.tolist()):
        if j >= 0:
            assert student[i] == teacher[j] <= most
    assert {int(student[i]) for i in np.flatnonzero(found >= 0)} == {
        n for n in set(student.tolist()) & set(teacher.tolist()) if n <= most
    }
    matched = found[found >= 0]
    assert (np.diff(matched) > 0).all()
    # The same from the other side.
    back = pairs(teacher, student, most)
    assert [(i, j) for i, j in enumerate(found.tolist()) if j >= 0] == [
        (i, j) for j, i in enumerate(back.tolist()) if i >= 0
    ]


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_agreement_is_the_common_start(one, other):
    n = agreement(one, other)
    assert one[:n] == other[:n]
    assert n == min(len(one), len(other)) or one[n] != other[n]


def packed(tokenizer, documents, T):
    """Documents as trainer/data/packing.py lays them out: pairs end to end, cut every T."""
    inputs: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    for number, text in enumerate(documents):
        ids = [*tokenizer.encode(text).tolist(), tokenizer.eos_id]
        inputs, targets = inputs + ids[:-1], targets + ids[1:]
        numbers += [number] * (len(ids) - 1)
    rows = max(-(-len(inputs) // T), 1)

    def laid_out(field, filler):
        return np.array(field + [filler] * (rows * T - len(field)), np.int32).reshape(rows, T)

    document = laid_out(numbers, -1)
    segments = np.where(document < 0, 0, document - document[:, :1] + 1).astype(np.int32)
    return Batch(laid_out(inputs, 0), laid_out(targets, 0), segments, (segments > 0).astype(np.float32))


def read_so_far(texts, tokens, numbers, position):
    """The bytes that a model has read of its segment at a position."""
    first = int(np.flatnonzero(numbers == numbers[position])[0])
    return b"".join(texts[token] for token in tokens[first : position + 1].tolist())


def check(student, teacher, batch, seq_len):
    """Every pair has read the same bytes; says how many there are."""
    lesson = Retold(student, teacher, seq_len).lesson(batch)
    theirs, pieces = student.pieces().texts, teacher.pieces()
    bare = [b"" if token in pieces.prefix else text for token, text in enumerate(pieces.texts)]
    for row, position in np.argwhere(lesson["pair"] >= 0):
        place = lesson["pair"][row, position]
        numbers = lesson["teacher_segments"][row]
        assert numbers[place] == batch.segments[row, position] > 0
        one = read_so_far(theirs, batch.inputs[row], batch.segments[row], position)
        other = read_so_far(bare, lesson["teacher_inputs"][row], numbers, place)
        assert one
        assert other
        # Up to three bytes of a character that began in the window before; and a space that SentencePiece puts first.
        skipped = next(i for i, byte in enumerate(one) if not 0x80 <= byte < 0xC0)
        assert skipped <= 3
        assert other in (one[skipped:], b" " + one[skipped:])
    return int((lesson["pair"] >= 0).sum()), lesson


@settings(max_examples=40)
@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=3), st.integers(2, 40), st.sampled_from([4, 16, 400]))
def test_paired_positions_have_read_the_same_bytes(documents, T, seq_len):
    for one, other in (("byte", "golden"), ("sentencepiece", "byte level"), ("byte level", "sentencepiece")):
        student = tokenizer_of(one)
        check(student, tokenizer_of(other), packed(student, documents, T), seq_len)


def test_a_document_is_paired_to_its_end():
    """The last position, whose target is the end of the document, has the teacher's last beside it."""
    student, teacher = tokenizer_of("byte"), tokenizer_of("byte level")
    batch = packed(student, ["the fox", "naïve café 🦊"], 40)
    found, lesson = check(student, teacher, batch, 64)
    assert (lesson["pair"][0, [6, len(b"the fox" + "naïve café 🦊".encode()) - 1]] >= 0).all()
    assert found > 4
    # <bos> is read first in each segment, and nothing is beside it.
    numbers = lesson["teacher_segments"][0]
    starts = [int(np.flatnonzero(numbers == n)[0]) for n in (1, 2)]
    assert lesson["teacher_inputs"][0, starts].tolist() == [2, 2]
    assert not np.isin(starts, lesson["pair"]).any()


def test_a_window_that_begins_within_a_character():
    student, teacher = tokenizer_of("byte"), tokenizer_of("golden")
    for cut in (1, 2, 3):
        batch = packed(student, ["🦊" + "the fox and the fox"], cut)
        # What is behind the first `cut` bytes, as one window.
        inputs, targets, segments, weights = (field[1:].reshape(1, -1) for field in batch[:4])
        window = Batch(inputs, targets, np.minimum(segments, 1), weights)
        found, lesson = check(student, teacher, window, 64)
        assert found > 5
        assert (lesson["pair"][0, : 4 - cut] == -1).all()


def test_what_does_not_fit_is_cut_off_and_said(caplog):
    student, teacher = tokenizer_of("byte"), tokenizer_of("golden")
    batch = packed(student, ["the fox and the other fox", "another"], 60)
    whole, longer = check(student, teacher, batch, 64)
    fewer, short = check(student, teacher, batch, 8)
    assert 0 < fewer < whole
    assert (short["pair"] < 8).all()
    np.testing.assert_array_equal(short["teacher_inputs"][0], longer["teacher_inputs"][0, :8])
    assert "teacher_seq_len 8 is too short" in caplog.text
    assert Retold(student, teacher, 8).lengths(batch)[0] > 8


def test_a_normalizer_that_composes_ends_the_pairs_where_it_does(tmp_path):
    from tokenizers import normalizers

    file = byte_level(tmp_path, normalizer=normalizers.NFC())
    student, teacher = tokenizer_of("byte"), open_tokenizer(str(file), SequenceSection())
    _, lesson = check(student, teacher, packed(student, ["a fox, cafe\u0301 and more"], 40), 64)
    assert np.flatnonzero(lesson["pair"][0] >= 0).max() == len("a fox, caf") - 1
