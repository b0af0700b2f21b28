"""Where prepared corpora and their plans are kept, so that a restart finds them.

The folder that the config names comes first, then the run's own. What is there and whole is used; what is not is
made in the first place that can be written to, by one process at a time.
"""

import errno
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from trainer.data.encode import worker_count
from trainer.data.packing import Packed
from trainer.data.plan import Plan, Question, make_plan, open_plan
from trainer.data.prepare import identity, prepare
from trainer.data.shards import MANIFEST, Corpus
from trainer.data.tokenizers import Tokenizer
from trainer.errors import StorageError, UserError
from vishwamai.contract.config import DataSection

_UNUSABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_PLANS = "plans"

_LOG = logging.getLogger(__name__)


class Cache:
    """Folders for prepared corpora, the preferred one first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    @classmethod
    def of(cls, data: DataSection, output: Path) -> "Cache":
        """What a run uses: data.cache if it is set, and a folder under its own output."""
        own = output / "prepared"
        return cls([own] if data.cache is None else [Path(data.cache).expanduser(), own])

    def corpus(self, files: list[str], data: DataSection, tokenizer: Tokenizer, field: str) -> Corpus:
        """The corpus of these files, prepared now unless it has been.

        Raises:
          UserError: a file, or a corpus in the cache, is at fault.
          StorageError: the disk is full.
        """
        source = identity(files, data, tokenizer)

        def found(folder: Path) -> Corpus | None:
            return Corpus.open(folder, field) if (folder / MANIFEST).is_file() else None

        def make(folder: Path) -> None:
            prepare(folder, files, data, tokenizer, field, source=source, workers=worker_count())

        return made(self._folders, source[:20], found, make, "name another folder in data.cache")

    def plan(self, corpus: Corpus, question: Question) -> tuple[Plan, dict[str, Packed]]:
        """The plan of a corpus: beside its shards, or in the cache where they cannot be written to."""
        elsewhere = [folder / f"{_PLANS}-{corpus.fingerprint[:20]}" for folder in self._folders]
        return made(
            [corpus.folder / _PLANS, *elsewhere],
            question.name,
            lambda folder: open_plan(folder, corpus, question),
            lambda folder: make_plan(folder, corpus, question),
            "name another folder in data.cache",
        )


def made[T](
    folders: Sequence[Path], name: str, found: Callable[[Path], T | None], make: Callable[[Path], None], fix: str
) -> T:
    """What is called `name` in one of the folders; if it is in none, it is made in the first that takes it.

    Args:
      folders: the preferred one first.
      name: of a folder in one of them.
      found: opens it; None where it is not there.
      make: makes it; called by one process at a time, the others wait and find it.
      fix: what to do when no folder can be written to.

    Raises:
      UserError: no folder can be written to.
      StorageError: the disk is full.
    """
    for folder in folders:
        if (there := found(folder / name)) is not None:
            return there
    for number, folder in enumerate(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{name}.lock"):
                if (there := found(folder / name)) is None:
                    make(folder / name)
                    there = found(folder / name)
        except OSError as error:
            _refuse_or_warn(error, folder, list(folders[number + 1 :]), fix)
            continue
        assert there is not None, f"{folder / name} was just made"
        return there
    raise AssertionError("the last folder is taken or refused")


def _refuse_or_warn(error: OSError, folder: Path, others: list[Path], fix: str) -> None:
    """Raises what a folder that cannot be written to means, unless there are others."""
    if error.errno in _FULL:
        raise StorageError(f"there is no room for tokenized text in {str(folder)!r} ({error.strerror})") from error
    if error.errno not in _UNUSABLE:
        raise error
    reason = f"tokenized text cannot be kept in {str(folder)!r} ({error.strerror})"
    if not others:
        raise UserError(f"{reason}: make it writable, or {fix}") from error
    _LOG.warning("%s; it is kept in %r instead", reason, str(others[0]))
