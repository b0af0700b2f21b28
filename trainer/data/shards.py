"""A prepared corpus: tokens on disk, read through memory maps.

    DIR/manifest.json        what it is: Manifest
    DIR/tokens-00000.bin     little-endian ids of documents end to end, each ended by eos
    DIR/documents-00000.bin  DOCUMENT of each: its tokens, bytes and hash
    DIR/tokens-00001.bin     ...

A document lies in one shard. Tokens are counted through all shards, and so are documents.
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from trainer.data.encode import DOCUMENT
from trainer.data.tokenizers import Tokenizer
from trainer.errors import UserError
from vishwamai.contract.base import Value

FORMAT = 1
MANIFEST = "manifest.json"


class Shard(Value):
    """Two files of a corpus."""

    tokens: int = Field(ge=2)
    documents: int = Field(ge=1)
    tokens_sha256: str
    documents_sha256: str


class Manifest(Value):
    """What a prepared corpus is."""

    format: Literal[1] = 1
    tokenizer: str
    tokenizer_fingerprint: str
    vocab_size: int
    dtype: Literal["uint16", "uint32"]
    source: str
    """Identity of the files that it was made of, and of how they were read."""
    files: int
    documents: int
    tokens: int
    bytes: int
    """UTF-8 bytes of the documents."""
    documents_dropped: int
    """Texts that gave no token."""
    bytes_dropped: int
    shards: list[Shard]


class Corpus:
    """A prepared corpus, opened. Nothing is read until it is asked for."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._tokens = [
            map_array(tokens_file(folder, n), np.dtype(manifest.dtype).newbyteorder("<"), one.tokens)
            for n, one in enumerate(manifest.shards)
        ]
        self._firsts = np.cumsum([0, *(one.tokens for one in manifest.shards)])

    @classmethod
    def open(cls, folder: Path, field: str) -> "Corpus":
        """The corpus in a folder.

        Raises:
          UserError: it is damaged; the message begins with `field`, the config's name for it.
        """
        manifest = _read_manifest(folder, field)
        width = np.dtype(manifest.dtype).itemsize
        for number, shard in enumerate(manifest.shards):
            _check_size(tokens_file(folder, number), shard.tokens * width, field)
            _check_size(documents_file(folder, number), shard.documents * DOCUMENT.itemsize, field)
        return cls(folder, manifest)

    @property
    def fingerprint(self) -> str:
        """Tells corpora apart by their tokens and texts."""
        sums = [(shard.tokens_sha256, shard.documents_sha256) for shard in self.manifest.shards]
        return hashlib.sha256(repr(sums).encode()).hexdigest()

    def check_tokenizer(self, tokenizer: Tokenizer, field: str) -> None:
        """Raises UserError when the corpus was tokenized by another one."""
        theirs = self.manifest
        if theirs.tokenizer_fingerprint != tokenizer.fingerprint:
            then = f"{theirs.tokenizer!r} of {theirs.vocab_size} ids and hash {theirs.tokenizer_fingerprint[:12]}"
            now = f"{tokenizer.name!r} has {tokenizer.vocab_size} and {tokenizer.fingerprint[:12]}"
            raise UserError(
                f"{field}: {str(self.folder)!r} was prepared with the tokenizer {then}, and data.tokenizer {now} "
                "(special tokens count): name that tokenizer, or prepare anew"
            )

    def verify(self, field: str) -> None:
        """Reads every byte. Raises UserError when one is not what was written."""
        for number, shard in enumerate(self.manifest.shards):
            _check_bytes(tokens_file(self.folder, number), shard.tokens_sha256, field)
            _check_bytes(documents_file(self.folder, number), shard.documents_sha256, field)

    def documents(self, shard: int) -> np.ndarray:
        """DOCUMENT [documents] of one shard."""
        count = self.manifest.shards[shard].documents
        return map_array(documents_file(self.folder, shard), DOCUMENT, count)

    def tokens(self, start: int, count: int) -> np.ndarray:
        """Ids start .. start + count - 1 of all shards' tokens, which lie in one of them."""
        shard = int(np.searchsorted(self._firsts, start, side="right")) - 1 if len(self._tokens) > 1 else 0
        at = start - int(self._firsts[shard])
        return self._tokens[shard][at : at + count]


def tokens_file(folder: Path, number: int) -> Path:
    """Ids of a shard's documents."""
    return folder / f"tokens-{number:05}.bin"


def documents_file(folder: Path, number: int) -> Path:
    """DOCUMENT of each of a shard's documents."""
    return folder / f"documents-{number:05}.bin"


def is_prepared(location: str) -> bool:
    """Whether a location names a prepared corpus rather than text."""
    return "://" not in location and (Path(location).expanduser() / MANIFEST).is_file()


def map_array(path: Path, dtype: np.dtype, length: int) -> np.ndarray:
    """A file's array, read as it is used. Slices of np.memmap itself cost as much as what is read through them."""
    return np.memmap(path, dtype, "r", shape=length).view(np.ndarray) if length else np.zeros(0, dtype)


def _read_manifest(folder: Path, field: str) -> Manifest:
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
        if manifest.tokens != sum(shard.tokens for shard in manifest.shards) or not manifest.shards:
            raise ValueError(f"its shards do not have the {manifest.tokens} tokens that it names")
    except OSError as error:
        raise UserError(f"{field}: cannot read {str(path)!r}: {error.strerror}") from error
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{field}: {str(path)!r} is damaged, or of another release "
            f"({place + ': ' if place else ''}{first['msg']}): copy or prepare the folder anew"
        ) from error
    return manifest


def _check_size(path: Path, size: int, field: str) -> None:
    found = path.stat().st_size if path.is_file() else None
    if found != size:
        state = "is missing" if found is None else f"has {found} bytes"
        raise UserError(
            f"{field}: the shard {str(path)!r} {state}, and the manifest says {size}: copy or prepare the folder anew"
        )


def _check_bytes(path: Path, checksum: str, field: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checksum:
        raise UserError(
            f"{field}: the shard {str(path)!r} is damaged: its bytes are not those that were written; "
            "copy or prepare the folder anew"
        )
