"""Tokenized documents in one array, and their division into what is trained on and what is held out."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import batched

import numpy as np

from trainer.data.tokenizers import Ids, Tokenizer

_TEXTS_AT_ONCE = 256
_UINT64 = 2.0**64


@dataclass(frozen=True)
class Documents:
    """Documents end to end; each has at least two tokens, and eos is the last of each whole one."""

    tokens: Ids
    """uint16 or int32 ids of all documents."""
    offsets: np.ndarray
    """int64 [documents + 1]: document d is tokens[offsets[d]:offsets[d + 1]]."""
    digests: tuple[bytes, ...]
    """Hash of each document's text."""

    def __len__(self) -> int:
        return len(self.digests)

    def document(self, index: int) -> Ids:
        """The ids of one document."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def fingerprint(self) -> str:
        """sha256 over the texts in order."""
        return hashlib.sha256(b"".join(self.digests)).hexdigest()

    def chosen(self, mask: np.ndarray) -> "Documents":
        """The documents where mask (bool [documents]) is true."""
        indices = np.flatnonzero(mask).tolist()
        return join([self.document(i) for i in indices], [self.digests[i] for i in indices], self.tokens.dtype)


def join(pieces: list[Ids], digests: list[bytes], dtype: np.dtype) -> Documents:
    """Documents from the ids of each."""
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    tokens = np.concatenate([np.zeros(0, dtype), *pieces]).astype(dtype, copy=False)
    return Documents(tokens, np.concatenate([[0], np.cumsum(lengths)]), tuple(digests))


def tokenize(texts: Iterable[str], tokenizer: Tokenizer, min_length: int) -> tuple[Documents, int]:
    """Documents of at least min_length tokens, each ended by eos, and how many shorter ones were left out."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 2**16 else np.int32)
    eos = np.array([tokenizer.eos_id], dtype)
    pieces: list[Ids] = []
    digests: list[bytes] = []
    dropped = 0
    for some in batched(texts, _TEXTS_AT_ONCE):
        for text, ids in zip(some, tokenizer.encode_many(some), strict=True):
            if len(ids) < max(min_length, 1):
                dropped += 1
                continue
            pieces.append(np.concatenate([ids.astype(dtype), eos]))
            digests.append(hashlib.blake2b(text.encode(), digest_size=16).digest())
    return join(pieces, digests, dtype), dropped


def hold_out(documents: Documents, fraction: float, seed: int) -> tuple[Documents, Documents]:
    """Divides documents into those trained on and those held out for evaluation.

    A document's side depends on its text, the seed and the fraction alone, so copies stay together and adding files
    moves none of the others; yet neither side is left empty. Of a single document, the tail is held out.
    """
    nobody = np.zeros(len(documents), bool)
    if fraction == 0.0:
        return documents, documents.chosen(nobody)
    if len(documents) == 1:
        return _hold_out_tail(documents, fraction)
    places = np.array([_place(digest, seed) for digest in documents.digests])
    held = places < fraction
    if not held.any():
        held = places == places.min()
    if held.all() and len(documents) > 1:
        # Only copies of one document, or a fraction near 1: keep the one that would come last.
        held[int(np.argmax(places))] = False
    return documents.chosen(~held), documents.chosen(held)


def _place(digest: bytes, seed: int) -> float:
    """A number in [0, 1) drawn from the document and the seed."""
    hashed = hashlib.blake2b(digest, digest_size=8, key=seed.to_bytes(8, "big")).digest()
    return int.from_bytes(hashed, "big") / _UINT64


def _hold_out_tail(documents: Documents, fraction: float) -> tuple[Documents, Documents]:
    tokens, digests, dtype = documents.tokens, list(documents.digests), documents.tokens.dtype
    tail = max(2, round(len(tokens) * fraction))
    cut = max(2, len(tokens) - tail)
    if len(tokens) - cut < 2:
        return documents, join([], [], dtype)
    return join([tokens[:cut]], digests, dtype), join([tokens[cut:]], digests, dtype)
