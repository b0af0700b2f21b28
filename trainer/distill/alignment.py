"""Where two tokenizations of the same bytes have a boundary in common.

    student  na|ï|ve| |fox      bytes read  2 4 6 7 10
    teacher  naïve| f|ox        bytes read  6 8 10          pairs (2, 0), (4, 2)

After a common boundary both models have read the same bytes and say what comes next: there, and only there, are their
distributions about the same thing. A token of no bytes moves no boundary; of several positions with as many bytes the
last one counts, which has read all that is there.
"""

from collections.abc import Sequence

import numpy as np


def ends(texts: Sequence[bytes]) -> np.ndarray:
    """int64 [tokens]: bytes read after each of the tokens."""
    return np.cumsum([len(text) for text in texts], dtype=np.int64)


def pairs(student: np.ndarray, teacher: np.ndarray, most: int | None = None) -> np.ndarray:
    """int32 [student's tokens]: the teacher's position that has read as many bytes, -1 where there is none.

    Args:
        student: int64 bytes read after each token, never falling; negative: nothing that the other could know.
        teacher: the same of the teacher.
        most: boundaries beyond so many bytes are no pairs.
    """
    if not len(student) or not len(teacher):
        return np.full(len(student), -1, np.int32)
    found = np.searchsorted(teacher, student, side="right") - 1
    last = np.append(student[1:] != student[:-1], True)
    common = last & (found >= 0) & (student >= 0) & (teacher[np.maximum(found, 0)] == student)
    if most is not None:
        common &= student <= most
    return np.where(common, found, -1).astype(np.int32)


def agreement(one: bytes, other: bytes) -> int:
    """How many bytes from the start are the same."""
    length = min(len(one), len(other))
    differs = np.frombuffer(one, np.uint8, length) != np.frombuffer(other, np.uint8, length)
    return int(np.argmax(differs)) if differs.any() else length
