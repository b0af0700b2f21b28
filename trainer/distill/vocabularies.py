"""Two vocabularies as divisions of what may come next, so that distributions over them can be compared.

Every shared token, one whose bytes are the same in both, is a class. A token that only one vocabulary has

    prefix   belongs to the class of the longest shared token that it begins with: a text that goes on with " the" goes
             on with " ", whatever follows
    rank     belongs to no class, as in GOLD (TRL)

and so does, in both, what has no bytes to compare: special tokens, and rows of a model beyond its tokenizer. The two
tokens that end a document are a class of their own. docs/decisions/0016 has the reasons.
"""

from typing import Literal, NamedTuple, Protocol

import numpy as np

from trainer.data.pieces import Pieces

Unshared = Literal["prefix", "rank"]


class Vocabulary(Protocol):
    """What of a tokenizer is looked at."""

    @property
    def eos_id(self) -> int:
        """Ends a document."""

    @property
    def pad_id(self) -> int:
        """Fills the end of a short row."""

    def pieces(self) -> Pieces:
        """The bytes of each token."""


class Classes(NamedTuple):
    """The classes of two vocabularies, 0 to shared - 1; the number `shared` stands for none of them."""

    student: np.ndarray
    """int32 [V]: the class of each of the student's tokens."""
    teacher: np.ndarray
    """int32 [V of the teacher]."""
    shared: int

    @property
    def alone(self) -> tuple[int, int]:
        """How many of the student's tokens are without a class, and of the teacher's."""
        return int(np.sum(self.student == self.shared)), int(np.sum(self.teacher == self.shared))


def classes_of(student: Vocabulary, teacher: Vocabulary, sizes: tuple[int, int], unshared: Unshared) -> Classes:
    """The classes of two tokenizers' tokens in models of these vocabulary sizes, the student's first."""
    texts = tuple(_texts(one, size) for one, size in zip((student, teacher), sizes, strict=True))
    first, second = (_owners(of_one) for of_one in texts)
    shared = sorted(first.keys() & second.keys(), key=first.__getitem__)
    number = {text: i for i, text in enumerate(shared)}
    longest = max(map(len, shared), default=0)
    ends = _is_token(student.eos_id, sizes[0]) and _is_token(teacher.eos_id, sizes[1])
    count = len(number) + ends
    found = []
    for tokenizer, of_one, owners in zip((student, teacher), texts, (first, second), strict=True):
        classes = np.full(len(of_one), count, np.int32)
        for token, text in enumerate(of_one):
            if owners.get(text) == token and text in number:
                classes[token] = number[text]
            elif unshared == "prefix" and text:
                lengths = range(min(len(text), longest), 0, -1)
                classes[token] = next((number[text[:n]] for n in lengths if text[:n] in number), count)
        if ends:
            classes[tokenizer.eos_id] = count - 1
        found.append(classes)
    return Classes(found[0], found[1], count)


def _texts(tokenizer: Vocabulary, size: int) -> list[bytes]:
    """The bytes of each token that is one, of `size`."""
    pieces = tokenizer.pieces()
    marks = pieces.special | {tokenizer.eos_id, tokenizer.pad_id}
    texts = [b"" if token in marks else text for token, text in enumerate(pieces.texts[:size])]
    return texts + [b""] * (size - len(texts))


def _owners(texts: list[bytes]) -> dict[bytes, int]:
    """The token of each text; of several (a letter and its fallback byte, say) the last, which is the letter's."""
    return {text: token for token, text in enumerate(texts) if text}


def _is_token(token: int, size: int) -> bool:
    return 0 <= token < size
