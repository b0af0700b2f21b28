"""Two vocabularies as divisions of what may come next, so that distributions over them can be compared.

Every shared token, one whose bytes are the same in both, is a class. A token that only one vocabulary has

    prefix   belongs to the class of the longest shared token that it begins with: a text that goes on with " the" goes
             on with " ", whatever follows
    rank     belongs to no class, as in GOLD (TRL)

and so do special tokens in both. The two tokens that end a document are a class of their own. Rows that are no token,
such as those of a model beyond its tokenizer, are not even ranked. docs/decisions/0016 has the reasons.
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
    """The classes of two vocabularies, 0 to shared - 1; `shared` stands for none of them, `shared` + 1 for no token."""

    student: np.ndarray
    """int32 [V]: the class of each of the student's tokens."""
    teacher: np.ndarray
    """int32 [V of the teacher]."""
    shared: int

    @property
    def alone(self) -> tuple[int, int]:
        """How many of the student's tokens are without a class, and of the teacher's."""
        return int(np.sum(self.student == self.shared)), int(np.sum(self.teacher == self.shared))


class _Side:
    """One of the two vocabularies."""

    def __init__(self, tokenizer: Vocabulary, size: int) -> None:
        pieces = tokenizer.pieces()
        self.end = tokenizer.eos_id
        self.marks = pieces.special | {tokenizer.eos_id, tokenizer.pad_id}
        texts = [b"" if token in self.marks else text for token, text in enumerate(pieces.texts[:size])]
        self.texts = texts + [b""] * (size - len(texts))
        self.owners = {text: token for token, text in enumerate(texts) if text}
        """The token of each text; of several (a letter and its fallback byte, say) the last, which is the letter's."""

    def classes(self, number: dict[bytes, int], count: int, unshared: Unshared) -> np.ndarray:
        """int32 [size], given each shared text's number."""
        longest = max(map(len, number), default=0)
        found = np.full(len(self.texts), count, np.int32)
        for token, text in enumerate(self.texts):
            if not text:
                found[token] = count if token in self.marks else count + 1
            elif text in number and self.owners[text] == token:
                found[token] = number[text]
            elif unshared == "prefix":
                lengths = range(min(len(text), longest), 0, -1)
                found[token] = next((number[text[:n]] for n in lengths if text[:n] in number), count)
        return found


def classes_of(student: Vocabulary, teacher: Vocabulary, sizes: tuple[int, int], unshared: Unshared) -> Classes:
    """The classes of two tokenizers' tokens in models of these vocabulary sizes, the student's first."""
    one, other = _Side(student, sizes[0]), _Side(teacher, sizes[1])
    shared = sorted(one.owners.keys() & other.owners.keys(), key=one.owners.__getitem__)
    number = {text: i for i, text in enumerate(shared)}
    ends = one.end < sizes[0] and other.end < sizes[1]
    count = len(number) + ends
    found = [side.classes(number, count, unshared) for side in (one, other)]
    if ends:
        found[0][one.end] = found[1][other.end] = count - 1
    return Classes(found[0], found[1], count)
