"""Tokenizes a corpus once, into a folder of shards that appears when it is whole.

The work happens in DIR.partial. Each shard that is complete gets a record there; a preparation that was killed goes on
behind the last of them, reading the texts before it but not tokenizing them. At the end the manifest is written and the
folder gets its name.
"""

import hashlib
import json
import logging
import os
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from trainer.data import sources
from trainer.data.encode import Encoded, encode_all, token_dtype
from trainer.data.shards import FORMAT, MANIFEST, Manifest, Shard, documents_file, tokens_file
from trainer.data.tokenizers import Tokenizer
from trainer.errors import UserError
from vishwamai.contract.base import Value
from vishwamai.contract.config import DataSection

SHARD_TOKENS = 2**26
"""Tokens after which a shard ends: 128 MiB of them at 2 bytes each, which are held in memory until then."""
_SOURCE = "source"

_LOG = logging.getLogger(__name__)


class Totals(Value):
    """Texts read so far, and what became of them."""

    read: int = 0
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    documents_dropped: int = 0
    bytes_dropped: int = 0

    def with_chunk(self, chunk: Encoded) -> "Totals":
        """The totals with one more chunk."""
        return Totals(
            read=self.read + chunk.read,
            documents=self.documents + len(chunk.documents),
            tokens=self.tokens + len(chunk.tokens),
            bytes=self.bytes + int(chunk.documents["bytes"].sum()),
            documents_dropped=self.documents_dropped + chunk.read - len(chunk.documents),
            bytes_dropped=self.bytes_dropped + chunk.bytes_dropped,
        )


class _Record(Value):
    """A complete shard of an unfinished corpus, and the totals when it ended."""

    shard: Shard
    totals: Totals


def identity(files: list[str], data: DataSection, tokenizer: Tokenizer) -> str:
    """Tells whether a corpus made of these files would come out the same: 64 hexadecimal digits."""
    parts = [FORMAT, tokenizer.fingerprint, sources.identity(files), data.format, data.text_field]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def prepare(
    folder: Path,
    files: list[str],
    data: DataSection,
    tokenizer: Tokenizer,
    field: str,
    *,
    source: str,
    workers: int,
    shard_tokens: int = SHARD_TOKENS,
) -> None:
    """Makes `folder`, which does not exist or is empty, of the files' documents.

    Args:
      folder: gets the shards. Nobody else may be at work on it.
      files: as `sources.expand` gives them.
      data: says how they are read.
      tokenizer: its processes are given copies.
      field: the config's name for the files, e.g. 'data.train'.
      source: their `identity`.
      workers: processes that tokenize; the shards do not depend on it.
      shard_tokens: tokens after which a shard ends, with the chunk that brings it there.

    Raises:
      UserError: a file is at fault, or there is no text.
    """
    writer = _Writer(
        folder.with_name(folder.name + ".partial"), source, token_dtype(tokenizer.vocab_size), shard_tokens
    )
    if writer.totals.read:
        _LOG.info("%s: goes on behind %d texts that were tokenized before", field, writer.totals.read)
    texts = islice(sources.read(files, data, field), writer.totals.read, None)
    for chunk in encode_all(texts, tokenizer, workers):
        if writer.add(chunk):
            _LOG.info("%s: %d texts, %d tokens so far", field, writer.totals.read, writer.totals.tokens)
    totals, shards = writer.finish()
    if not shards:
        raise UserError(f"{field}: there is no text in {some(files)}: name files that hold some")
    manifest = Manifest(
        tokenizer=tokenizer.name,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        dtype="uint16" if writer.dtype.itemsize == 2 else "uint32",
        source=source,
        files=len(files),
        shards=shards,
        **totals.model_dump(exclude={"read"}),
    )
    writer.commit(manifest, folder)


def some(files: list[str]) -> str:
    """Files, for a message."""
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more files" if len(files) > 3 else "")


def write_durably(path: Path, content: bytes) -> None:
    """Makes a file that is whole or absent, whenever the machine stops."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


class _Writer:
    """Shards in a folder that is not yet the corpus."""

    def __init__(self, folder: Path, source: str, dtype: np.dtype, shard_tokens: int) -> None:
        """Takes up what a preparation of the same source left in the folder; anything else there is removed."""
        self.dtype = dtype
        self._folder, self._shard_tokens = folder, shard_tokens
        mark = f"{source} {shard_tokens}"
        if not (folder / _SOURCE).is_file() or (folder / _SOURCE).read_text() != mark:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_durably(folder / _SOURCE, mark.encode())
        records = _complete(folder)
        self._shards = [record.shard for record in records]
        self.totals = records[-1].totals if records else Totals()
        self._pieces: list[Encoded] = []
        self._pending = 0

    def add(self, chunk: Encoded) -> bool:
        """Takes one more chunk; True when a shard is complete with it."""
        self.totals = self.totals.with_chunk(chunk)
        if len(chunk.documents):
            self._pieces.append(chunk)
            self._pending += len(chunk.tokens)
        if self._pending < self._shard_tokens:
            return False
        self._end_shard()
        return True

    def finish(self) -> tuple[Totals, list[Shard]]:
        """Ends the last shard."""
        if self._pieces:
            self._end_shard()
        return self.totals, self._shards

    def commit(self, manifest: Manifest, folder: Path) -> None:
        """Gives the corpus its manifest and its name."""
        write_durably(self._folder / MANIFEST, (manifest.model_dump_json(indent=1) + "\n").encode())
        for number in range(len(self._shards)):
            _record_file(self._folder, number).unlink(missing_ok=True)
        (self._folder / _SOURCE).unlink()
        self._folder.rename(folder)

    def _end_shard(self) -> None:
        number = len(self._shards)
        shard = Shard(
            tokens=self._pending,
            documents=sum(len(piece.documents) for piece in self._pieces),
            tokens_sha256=_write_arrays(tokens_file(self._folder, number), [piece.tokens for piece in self._pieces]),
            documents_sha256=_write_arrays(
                documents_file(self._folder, number), [piece.documents for piece in self._pieces]
            ),
        )
        record = _Record(shard=shard, totals=self.totals)
        write_durably(_record_file(self._folder, number), record.model_dump_json().encode())
        self._shards.append(shard)
        self._pieces, self._pending = [], 0


def _record_file(folder: Path, number: int) -> Path:
    return folder / f"{number:05}.record"


def _complete(folder: Path) -> list[_Record]:
    """The records of the shards that were completed, up to the first that is missing."""
    records: list[_Record] = []
    while _record_file(folder, len(records)).is_file():
        try:
            records.append(_Record.model_validate_json(_record_file(folder, len(records)).read_bytes()))
        except ValidationError:  # of another release: its shard is made anew
            break
    return records


def _write_arrays(path: Path, arrays: list[np.ndarray]) -> str:
    """Writes arrays end to end; the sha256 of the bytes."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for array in arrays:
            content = array.tobytes()
            digest.update(content)
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
