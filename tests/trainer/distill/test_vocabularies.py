import numpy as np
import pytest

from tests.trainer.data.test_pieces import tokenizer_of
from trainer.data.pieces import Pieces
from trainer.distill.vocabularies import classes_of


class Words:
    """A vocabulary of these texts; <eos> is the last."""

    def __init__(self, *texts):
        self._texts = [text.encode() for text in texts]
        self.eos_id = self.pad_id = len(texts)

    def pieces(self):
        return Pieces([*self._texts, b"<eos>"], frozenset([self.eos_id]))


STUDENT, TEACHER = Words("t", "th", " ", "no", "x"), Words(" the", "x", "t", "thx", " ", "y", "t")


def test_a_token_without_a_partner_counts_as_what_it_begins_with():
    found = classes_of(STUDENT, TEACHER, (6, 9), "prefix")
    # t, " ", x in the student's order, then the end; "no" and "y" begin with nothing that both have, and the teacher's
    # model has a row more than its tokenizer, which is no token.
    assert found.shared == 4
    assert found.student.tolist() == [0, 0, 1, 4, 2, 3]
    assert found.teacher.tolist() == [1, 2, 0, 0, 1, 4, 0, 3, 5]
    assert found.alone == (1, 1)


def test_or_as_nothing_but_its_rank():
    found = classes_of(STUDENT, TEACHER, (6, 9), "rank")
    assert found.student.tolist() == [0, 4, 1, 4, 2, 3]
    assert found.teacher.tolist() == [4, 2, 4, 4, 1, 4, 0, 3, 5]  # of two tokens of one text, one is the shared one


@pytest.mark.parametrize("other", ["golden", "byte level", "sentencepiece"])
def test_bytes_and_subwords(other):
    """Whatever a subword begins with, the student has its byte; marks alone are left over."""
    student, teacher = tokenizer_of("byte"), tokenizer_of(other)
    found = classes_of(student, teacher, (student.vocab_size, teacher.vocab_size), "prefix")
    assert found.shared == 257
    special = teacher.pieces().special - {teacher.eos_id}
    assert set(np.flatnonzero(found.teacher == 257)) == special | {teacher.pad_id} - {teacher.eos_id}
    first = [text[:1] for text in teacher.pieces().texts]
    of_byte = {student.pieces().texts[token]: found.student[token] for token in range(student.vocab_size)}
    for token, number in enumerate(found.teacher.tolist()):
        if number < 256:
            assert of_byte[first[token]] == number
