"""The tokenizers of student and teacher: whether they are one, and what two of them have in common.

Needs no JAX. Two tokenizers that read a text of many scripts alike are taken for one. Of two, both must keep a text's
bytes, or nobody could say where they have read the same.
"""

import json
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainer.data.tokenizers import Tokenizer, open_tokenizer
from trainer.distill.alignment import agreement
from trainer.distill.vocabularies import Classes, classes_of
from trainer.errors import UserError
from vishwamai.contract.config import SequenceSection
from vishwamai.contract.resolved import OtherTokens, ResolvedJob

_LOG = logging.getLogger(__name__)
_SETTING = "distillation.teacher_model"
_PROBE = (
    "The quick brown fox, 3.14159 and 2^10 = 1024.\n\tdef f(x):\n\t\treturn x ** 2  # naïve café\n"
    "Зелёная миля; 東京タワー; नमस्ते दुनिया; مرحبا; 🦊👩🏽\u200d💻 №5 ½\r\n"
)
"""Texts of many scripts, composed (NFC)."""


class Two(NamedTuple):
    """Student's and teacher's tokenizer, which differ."""

    student: Tokenizer
    teacher: Tokenizer

    @property
    def ratio(self) -> float:
        """The teacher's tokens for one of the student's, in a text of many scripts."""
        return len(self.teacher.encode(_PROBE)) / len(self.student.encode(_PROBE))


def find_two(job: ResolvedJob, folder: Path, run: ResolvedJob | None, words: int) -> Two | None:
    """Both tokenizers, or None when the teacher reads the student's tokens.

    Args:
        job: the student's.
        folder: the teacher's.
        run: the teacher's job, if it is a run.
        words: the teacher's vocabulary size.

    Raises UserError: a tokenizer is needed and absent or unreadable, or does not keep the bytes of a text.
    """
    config = job.effective
    ours = open_tokenizer(config.data.tokenizer, config.sequence)
    if run is None and not (folder / "tokenizer.json").is_file():
        if words == config.model.vocab_size:
            _LOG.warning("%r holds no tokenizer.json: the teacher is taken to read the job's own tokens", str(folder))
            return None
        raise UserError(
            f"{_SETTING}: {str(folder)!r} holds no tokenizer.json, and its vocabulary has another size than the "
            "student's: put the teacher's tokenizer beside its weights"
        )
    theirs = _of_run(run) if run is not None else _of_folder(folder, config.sequence)
    if _alike(ours, theirs):
        return None
    if run is None:
        theirs = _with_own_end(folder, theirs)
    if theirs.vocab_size > words:
        sizes = f"{theirs.vocab_size} tokens, and its model only {words}"
        raise UserError(f"{_SETTING}: the tokenizer in {str(folder)!r} has {sizes}: put the right one there")
    _check_keeps_bytes(ours, "data.tokenizer", theirs.name)
    _check_keeps_bytes(theirs, _SETTING, theirs.name)
    return Two(ours, theirs)


def reopen(job: ResolvedJob, tokens: OtherTokens) -> Tokenizer:
    """The teacher's tokenizer."""
    ends = {"eos_token_id": tokens.eos_token_id, "pad_token_id": tokens.pad_token_id}
    return _opened(tokens.tokenizer, job.effective.sequence.model_copy(update=ends))


def classes_for(job: ResolvedJob, two: Two, words: int) -> Classes:
    """What the two vocabularies have in common; `words` is the teacher's model's."""
    section = job.effective.distillation
    assert section is not None
    return classes_of(two.student, two.teacher, (job.effective.model.vocab_size, words), section.unshared_tokens)


def _of_run(run: ResolvedJob) -> Tokenizer:
    return _opened(run.effective.data.tokenizer, run.effective.sequence)


def _of_folder(folder: Path, sequence: SequenceSection) -> Tokenizer:
    """With the student's ends, as far as it has them: a folder's own do not say that it is another tokenizer."""
    path = str(folder / "tokenizer.json")
    theirs = _opened(path, sequence.model_copy(update={"eos_token_id": 0, "pad_token_id": 0}))
    ends = (sequence.eos_token_id, sequence.pad_token_id)
    return _opened(path, sequence) if max(ends) < theirs.vocab_size else theirs


def _with_own_end(folder: Path, tokenizer: Tokenizer) -> Tokenizer:
    """The same with the end of document that its model was trained with."""
    try:
        found = json.loads((folder / "config.json").read_bytes()).get("eos_token_id")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{_SETTING}: {str(folder / 'config.json')!r} cannot be read ({error})") from error
    end = found[0] if isinstance(found, list) and found else found
    if not isinstance(end, int) or not 0 <= end < tokenizer.vocab_size:
        raise UserError(
            f"{_SETTING}: eos_token_id of {str(folder / 'config.json')!r} is {found!r}, and a teacher of another "
            f"tokenizer needs it to be one of its {tokenizer.vocab_size} tokens: write it there"
        )
    return _opened(tokenizer.name, SequenceSection(eos_token_id=end, pad_token_id=end))


def _opened(location: str, sequence: SequenceSection) -> Tokenizer:
    try:
        return open_tokenizer(location, sequence)
    except UserError as error:
        raise UserError(f"{_SETTING}: {str(error).removeprefix('data.tokenizer: ')}") from error


def _alike(ours: Tokenizer, theirs: Tokenizer) -> bool:
    if ours.fingerprint == theirs.fingerprint:
        return True
    same_size = ours.vocab_size == theirs.vocab_size
    same_ends = (ours.eos_id, ours.pad_id) == (theirs.eos_id, theirs.pad_id)
    return same_size and same_ends and np.array_equal(ours.encode(_PROBE), theirs.encode(_PROBE))


def _check_keeps_bytes(tokenizer: Tokenizer, field: str, teachers: str) -> None:
    texts, wanted = tokenizer.pieces().texts, _PROBE.encode()
    found = b"".join(texts[token] for token in tokenizer.encode(_PROBE).tolist())
    if found in (wanted, b" " + wanted):
        return
    at = agreement(found, wanted)
    here, there = (text[max(at - 8, 0) : at + 12].decode(errors="replace") for text in (wanted, found))
    raise UserError(
        f"{field}: tokenizer {tokenizer.name!r} does not keep the text ({here!r} becomes {there!r}), so student and "
        f"teacher cannot be aligned: distil between byte-level tokenizers or those with byte fallback, or give both "
        f"models one tokenizer by setting data.tokenizer to {teachers!r}"
    )
