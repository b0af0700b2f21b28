"""A teacher's cache on disk: memory-mapped records, one for each window, in files that a manifest lists.

    cache.json           version, facts, and of each file its windows, size and hash; replaced as a whole, to commit
    000000.npy           [windows] records: ids [T, k], log_probs [T, k], rest [T], target [T]; see losses/top_words.py
    000000.windows.npy   int64 [windows] the records' window numbers

Words are uint16 where the vocabulary has at most 65,536, else uint32. Logs of probabilities are float16,
whose 11 bits are three more than bfloat16's: a log is off by |log p| / 2048 at most, and so least where p is large;
logits, which are larger, would lose more. The rest and the target are float32.

A window's record is one piece of a file, so a step reads as many pieces as it has windows. A file that the manifest
does not list is what a killed writer left, and is written over.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from trainer.errors import UserError
from vishwamai.contract.base import Value

SETTING = "distillation.cache"
MANIFEST = "cache.json"
Fact = int | str | None
_READERS = 8
_NEEDED = {"top_k", "vocab_size", "window_length", "teacher"}
_ELSEWHERE = "write the cache into another folder"


class CacheFile(Value):
    """One pair of files."""

    windows: int
    bytes: dict[str, int]
    """Size of each file by its name."""
    hashes: dict[str, str]


class Manifest(Value):
    """What a cache is, and what is in it."""

    version: Literal[1] = 1
    facts: dict[str, Fact]
    """What it was made from; a student's must be the same."""
    files: list[CacheFile] = []

    def number(self, name: str) -> int:
        """A fact that is a number."""
        value = self.facts[name]
        assert isinstance(value, int)
        return value


def record_type(length: int, top_k: int, vocabulary: int) -> np.dtype:
    """The record of a window of `length` tokens."""
    word = "<u2" if vocabulary <= 2**16 else "<u4"
    several, one = (length, top_k), (length,)
    return np.dtype(
        [("ids", word, several), ("log_probs", "<f2", several), ("rest", "<f4", one), ("target", "<f4", one)]
    )


def read_manifest(folder: Path) -> Manifest | None:
    """A folder's manifest; None when there is none. Raises UserError when it is damaged or cannot be read."""
    path = folder / MANIFEST
    try:
        found = Manifest.model_validate_json(path.read_bytes())
        if missing := _NEEDED - found.facts.keys():
            raise UserError(f"{SETTING}: {str(path)!r} says nothing of {', '.join(sorted(missing))}: {_ELSEWHERE}")
        return found
    except FileNotFoundError:
        return None
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(
            f"{SETTING}: {str(path)!r} is no manifest of this release ({wrong['loc']}: {wrong['msg']}): {_ELSEWHERE}"
        ) from error
    except OSError as error:
        raise UserError(f"{SETTING} {str(folder)!r} cannot be read: {error.strerror}") from error


def check_files(folder: Path, manifest: Manifest, *, contents: bool) -> None:
    """Raises UserError when a file is missing or of another size, or with `contents` not what was written."""
    listed = [(folder / name, size, one.hashes[name]) for one in manifest.files for name, size in one.bytes.items()]
    wrong = f"delete {str(folder)!r} and write the cache again"
    for path, size, _ in listed:
        try:
            found = path.stat().st_size
        except OSError as error:
            raise UserError(f"{SETTING}: {path.name} cannot be read ({error.strerror}): {wrong}") from error
        if found != size:
            raise UserError(f"{SETTING}: {path.name} has {found:,} bytes instead of {size:,}: {wrong}")
    if not contents:
        return
    with ThreadPoolExecutor(_READERS) as readers:
        for (path, _, wanted), hashed in zip(listed, readers.map(_hash, [path for path, *_ in listed]), strict=True):
            if hashed != wanted:
                raise UserError(f"{SETTING}: the content of {path.name} has changed: {wrong}")


def window_numbers(folder: Path, manifest: Manifest) -> list[np.ndarray]:
    """int64 [windows] numbers of each file's records."""
    return [np.load(folder / f"{number:06}.windows.npy") for number in range(len(manifest.files))]


def open_records(folder: Path, number: int) -> np.ndarray:
    """The records of one file, memory-mapped."""
    records: np.ndarray = np.load(folder / f"{number:06}.npy", mmap_mode="r")
    return records


def add_file(folder: Path, manifest: Manifest, windows: np.ndarray, records: np.ndarray) -> Manifest:
    """Commits records of these windows; gives the new manifest. Raises OSError."""
    number = len(manifest.files)
    arrays = {f"{number:06}.npy": records, f"{number:06}.windows.npy": windows.astype(np.int64)}
    for name, array in arrays.items():
        with (folder / name).open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
    one = CacheFile(
        windows=len(windows),
        bytes={name: (folder / name).stat().st_size for name in arrays},
        hashes={name: _hash(folder / name) for name in arrays},
    )
    grown = manifest.model_copy(update={"files": [*manifest.files, one]})
    write_manifest(folder, grown)
    return grown


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Puts the manifest in place as a whole. Raises OSError."""
    new = folder / f"{MANIFEST}.partial"
    with new.open("w", encoding="utf-8") as file:
        json.dump(manifest.model_dump(mode="json"), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / MANIFEST)


def check_facts(manifest: Manifest, found: Mapping[str, Any], folder: Path, *, writing: bool = False) -> None:
    """Raises UserError when the cache was made from something else than what is `found`; names both, and the fix."""
    for name, value in found.items():
        kept = manifest.facts.get(name)
        if kept is None or value is None or kept == value:
            continue
        setting, words = _MISFITS[name]
        fix = "name another folder, or delete this one" if writing else "write a cache for this config"
        raise UserError(f"{setting}: the cache in {str(folder)!r} {words.format(kept=kept, value=value)}: {fix}")


_MISFITS = {
    "top_k": ("distillation.cache_top_k", "keeps {kept} words of a token, and {value} are asked for"),
    "vocab_size": ("model.vocab_size", "is of a vocabulary of {kept} words, and the model has {value}"),
    "window_length": ("model.max_seq_len", "has windows of {kept} tokens, and the model's have {value}"),
    "tokenizer": ("data.tokenizer", "was made with another tokenizer"),
    "corpus": (
        "data.train",
        "was made from other text; what is trained on follows from the section data, and with a held-out share from "
        "run.seed",
    ),
    "window_count": ("data.train", "is of {kept} windows, and the text now makes {value}"),
    "windows": ("data.train", "numbers the windows of this text in another order"),
    "teacher": ("distillation.teacher_model", "was made with another teacher, of fingerprint {kept} and not {value}"),
    "teacher_files": (
        "distillation.teacher_model",
        "was made with another teacher, or its files have changed since: they were {kept} and are {value}",
    ),
}


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
