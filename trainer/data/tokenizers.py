"""Text to token ids and back: bytes, or a tokenizer.json of Hugging Face `tokenizers`."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import tokenizers as huggingface

from trainer.data.long_texts import LONGEST, encode_long
from trainer.data.pieces import Pieces, pieces_of
from trainer.errors import UserError
from trainer.remote import is_address, remote
from vishwamai.contract.config import ModelSection, SequenceSection

Ids = np.ndarray
"""One-dimensional integer array of token ids."""

BYTE = "byte"
_BYTE_VOCABULARY = 258


class Tokenizer(Protocol):
    """What turns text into ids below `vocab_size`; `encode` adds no special tokens."""

    @property
    def name(self) -> str:
        """What data.tokenizer said."""

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""

    @property
    def eos_id(self) -> int:
        """Ends a document."""

    @property
    def pad_id(self) -> int:
        """Fills the end of a short row."""

    @property
    def fingerprint(self) -> str:
        """sha256 that differs whenever the ids of some text may differ."""

    def encode(self, text: str) -> Ids:
        """The ids of one text."""

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text."""

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of ids; eos, pad and ids that stand for nothing are left out."""

    def describe(self, token_id: int) -> str:
        """How one token reads, for people."""

    def pieces(self) -> Pieces:
        """The bytes of each token."""


class ByteTokenizer:
    """UTF-8 bytes. pad and eos keep their ids; the 256 bytes take the others below 258, in order."""

    def __init__(self, eos_id: int, pad_id: int) -> None:
        self.name = BYTE
        self.vocab_size = _BYTE_VOCABULARY
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.fingerprint = hashlib.sha256(f"byte eos={eos_id} pad={pad_id}".encode()).hexdigest()
        free = np.setdiff1d(np.arange(_BYTE_VOCABULARY), [eos_id, pad_id])
        self._id_of_byte = free[:256].astype(np.uint16)
        self._byte_of_id = np.full(_BYTE_VOCABULARY, -1)
        self._byte_of_id[self._id_of_byte] = np.arange(256)

    @property
    def ids_of_bytes(self) -> Ids:
        """The id of each byte, [256]."""
        return self._id_of_byte

    def encode(self, text: str) -> Ids:
        """The ids of one text."""
        return self._id_of_byte[np.frombuffer(text.encode(), np.uint8)]

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        found = np.asarray(ids, dtype=np.int64)
        values = self._byte_of_id[found[(found >= 0) & (found < _BYTE_VOCABULARY)]]
        return values[values >= 0].astype(np.uint8).tobytes().decode(errors="replace")

    def describe(self, token_id: int) -> str:
        """How one token reads."""
        return {self.eos_id: "<eos>", self.pad_id: "<pad>"}.get(token_id) or self.decode([token_id])

    def pieces(self) -> Pieces:
        """One byte for each token but eos and pad."""
        texts = [b"" if value < 0 else bytes([value]) for value in self._byte_of_id.tolist()]
        return Pieces(texts, frozenset((self.eos_id, self.pad_id)))


class HuggingFaceTokenizer:
    """A tokenizer.json; its own post-processing (<s> and the like) is not applied."""

    def __init__(self, name: str, content: bytes, eos_id: int, pad_id: int) -> None:
        self._tokenizer = huggingface.Tokenizer.from_buffer(content)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.name = name
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.fingerprint = hashlib.sha256(content + f" eos={eos_id} pad={pad_id}".encode()).hexdigest()

    def encode(self, text: str) -> Ids:
        """The ids of one text."""
        return encode_long(lambda part: self._tokenizer.encode(part, add_special_tokens=False), text, LONGEST)

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, found in parallel."""
        short = [text for text in texts if len(text) <= LONGEST]
        found = iter(self._tokenizer.encode_batch_fast(short, add_special_tokens=False))
        return [
            np.array(next(found).ids, dtype=np.int32) if len(text) <= LONGEST else self.encode(text) for text in texts
        ]

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of ids."""
        kept = [int(i) for i in ids if 0 <= i < self.vocab_size and i not in (self.eos_id, self.pad_id)]
        return self._tokenizer.decode(kept, skip_special_tokens=True)

    def describe(self, token_id: int) -> str:
        """How one token reads."""
        return self._tokenizer.id_to_token(token_id) or "<unused>"

    def pieces(self) -> Pieces:
        """The bytes of each token."""
        return pieces_of(self._tokenizer, self.vocab_size)


def open_tokenizer(location: str, sequence: SequenceSection) -> Tokenizer:
    """The tokenizer that data.tokenizer names.

    Raises:
      UserError: the file cannot be used, or a special token of `sequence` lies beyond the vocabulary.
    """
    tokenizer = _open(location, sequence)
    for field, token_id in (("eos_token_id", tokenizer.eos_id), ("pad_token_id", tokenizer.pad_id)):
        if token_id >= tokenizer.vocab_size:
            raise UserError(
                f"sequence.{field} is {token_id}, but the tokenizer {location!r} has only the ids 0 to "
                f"{tokenizer.vocab_size - 1}: set sequence.{field} to one of these"
            )
    return tokenizer


def _open(location: str, sequence: SequenceSection) -> Tokenizer:
    if location == BYTE:
        return ByteTokenizer(sequence.eos_token_id, sequence.pad_token_id)
    name, content = _content(location)
    try:
        return HuggingFaceTokenizer(location, content, sequence.eos_token_id, sequence.pad_token_id)
    except Exception as error:  # the library raises bare Exception and ValueError alike
        raise UserError(
            f"data.tokenizer: {name!r} is not a tokenizer.json of Hugging Face tokenizers ({error})"
        ) from error


def _content(location: str) -> tuple[str, bytes]:
    """Name and bytes of the tokenizer.json that a location names, itself or as what a folder holds."""
    if is_address(location):
        place = remote(location, "data.tokenizer")
        if (info := place.info()) is not None and info["type"] == "directory":
            place /= "tokenizer.json"
        return place.address, place.read_bytes()
    path = Path(location).expanduser()
    if path.is_dir():
        path /= "tokenizer.json"
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        raise UserError(
            f"data.tokenizer: cannot read {str(path)!r} ({error.strerror}): give 'byte' or the path of a tokenizer.json"
        ) from error


def spelled_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """int64 [vocab_size]: UTF-8 bytes of text that each token stands for; none for eos and pad, which are ours.

    Where a tokenizer puts a space before each text, as SentencePiece does, that space counts.
    """
    lengths = np.array([len(text) for text in tokenizer.pieces().texts], np.int64)
    lengths[[tokenizer.eos_id, tokenizer.pad_id]] = 0
    return lengths


def check_fits(tokenizer: Tokenizer, model: ModelSection) -> None:
    """Raises UserError when the model has too few ids for the tokenizer."""
    if tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name!r} has {tokenizer.vocab_size} tokens, but model.vocab_size is "
            f"{model.vocab_size}: set model.vocab_size to at least {tokenizer.vocab_size}"
        )
