"""What lies in the folder of checkpoints, and what becomes of each: trusted, set aside, given up; and who is told."""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from etils import epath

from trainer.checkpoints import folders, manifest, places
from trainer.checkpoints.retention import loss_at, surplus
from trainer.errors import StorageError, TrainerError
from trainer.lock import FolderLock
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.reports import CheckpointEvent

logger = logging.getLogger(__name__)


class Shelf:
    """The committed checkpoints of one directory.

    Args:
      settings: which of them are kept.
      on_event: told what became of each.
      keeper: may change what is there, and holds the folder's lock until `release`. Others only look.

    Raises:
      UserError: another trainer holds the folder.
      StorageError: the object store does not answer.
    """

    def __init__(
        self,
        directory: epath.Path,
        settings: CheckpointSection,
        on_event: Callable[[CheckpointEvent], None],
        *,
        keeper: bool,
    ) -> None:
        self.directory = directory
        self.keeper = keeper
        self._settings, self._on_event = settings, on_event
        self._losses: dict[int, float | None] = {}
        self._told_of_sets = False
        self._lock: FolderLock | None = None
        if keeper:
            self._take_over()

    def _take_over(self) -> None:
        """Locks the folder, and tidies what a killed run left there."""
        if not places.is_address(self.directory):
            self._lock = FolderLock(Path(self.directory))
        try:
            with self._store_answers():
                folders.clean(self.directory)
                for step in folders.uncommitted_steps(self.directory):
                    self.reject(step, "it was never committed")
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Lets other trainers in."""
        if self._lock is not None:
            self._lock.release()

    def path(self, step: int) -> epath.Path:
        """The folder of the checkpoint of `step`."""
        return self.directory / str(step)

    def committed_steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        with self._store_answers():
            return folders.committed_steps(self.directory)

    def extra(self, step: int) -> dict[str, Any]:
        """What the committed checkpoint of `step` keeps beside its arrays."""
        with self._store_answers():
            found: dict[str, Any] = json.loads((self.path(step) / "extra" / "metadata").read_bytes())
            return found

    def size(self, step: int) -> int:
        """Bytes of all its files."""
        with self._store_answers():
            return sum(file.size for file in places.files(self.path(step)).values())

    def is_intact(self, step: int) -> bool:
        """Whether every file is as it was written; a damaged checkpoint is set aside.

        Raises StorageError when it cannot be read.
        """
        path = self.path(step)
        try:
            manifest.verify(path)
        except manifest.DamagedCheckpoint as damage:
            if self.keeper:
                self.reject(step, str(damage))
            return False
        except Exception as error:
            raise StorageError(f"the checkpoint {path} cannot be read: {reason(error)}") from error
        return True

    def note(self, step: int, extra: dict[str, Any]) -> None:
        """Remembers the evaluation loss of a checkpoint about to be saved."""
        self._losses[step] = loss_at(step, extra, self._settings.best_of)
        if self._settings.keep_best and self._settings.best_of and self._losses[step] is None:
            named = loss_at(step, extra, None)
            if named is not None and not self._told_of_sets:
                self._told_of_sets = True
                logger.warning("no evaluation set is named %r (checkpoint.best_of)", self._settings.best_of)

    def give_up_surplus(self, newest: int) -> bool:
        """Deletes what retention does not keep, unless the newest is damaged and nothing may go: then gives False."""
        try:
            steps = self.committed_steps()
            leaving = surplus(steps, self._settings, self._ranks(steps))
            if leaving and not self.is_intact(newest):
                return False
        except Exception as error:
            logger.warning("no checkpoint is deleted: %s", error)
            return True
        for step in leaving:
            try:
                folders.delete(self.path(step))
            except Exception as error:
                logger.warning("checkpoint %s could not be deleted: %s", self.path(step), error)
            else:
                self.tell("deleted", step)
        return True

    def _ranks(self, steps: list[int]) -> dict[int, float]:
        """Evaluation losses of the steps that have one; read once of those that an earlier life saved."""
        if self._settings.keep_best is None:
            return {}
        for step in steps:
            if step not in self._losses:
                self.note(step, self.extra(step))
        return {step: loss for step in steps if (loss := self._losses[step]) is not None}

    def leave(self, step: int, why: str) -> None:
        """Sets aside a checkpoint of a course that the run does not take."""
        aside = self._set_aside(step, "superseded")
        self.tell("deleted", step, message=f"{why}; set aside as {aside.name}")

    def reject(self, step: int, why: str) -> None:
        """Sets aside a checkpoint that cannot be used."""
        aside = self._set_aside(step, "corrupt")
        self.tell(
            "corrupt", step, message=f"the checkpoint of step {step} is unusable: {why}; set aside as {aside.name}"
        )

    def _set_aside(self, step: int, why: Literal["corrupt", "superseded"]) -> epath.Path:
        self._losses.pop(step, None)
        try:
            return folders.set_aside(self.path(step), why)
        except Exception as error:
            raise StorageError(f"{self.path(step)} could not be renamed to *.{why}: {reason(error)}") from error

    def tidy_aside(self) -> None:
        """Of what was set aside, the newest few stay for a look."""
        for path in folders.long_aside(self.directory):
            try:
                places.remove(path)
            except Exception as error:
                logger.warning("%s could not be deleted: %s", path, error)
            else:
                # No event of its step, which may have been saved anew since.
                logger.info("deleted %s: the newest %d like it are kept", path, folders.ASIDE_KEPT)

    def failed(self, step: int, error: Exception) -> StorageError:
        """What to raise when a save failed: says what is left, as far as the place still answers."""
        kept, room = "those committed before", ""
        remedy = "Free space there, lower checkpoint.keep_last, or choose"
        if places.is_address(self.directory):
            remedy = "See that the store answers and may be written to, or choose"
        with suppress(Exception):
            if self.keeper:
                folders.clean(self.directory)
            kept = ", ".join(map(str, folders.committed_steps(self.directory))) or "none"
        with suppress(OSError):
            free = places.free_bytes(self.directory)
            room = "" if free is None else f" ({free:,} bytes are free there)"
        message = (
            f"the checkpoint of step {step} could not be saved to {str(self.directory)!r}: {reason(error)}{room}. "
            f"Committed checkpoints are intact ({kept}). {remedy} another checkpoint.directory; the run then goes on "
            "from the newest"
        )
        self.tell("failed", step, message=message)
        return StorageError(message)

    def tell(
        self,
        action: Literal["committed", "restored", "deleted", "failed", "corrupt"],
        step: int,
        *,
        size_bytes: int | None = None,
        seconds: float | None = None,
        message: str | None = None,
        committed: list[int] | None = None,
    ) -> None:
        """Makes an event of it."""
        self._on_event(
            CheckpointEvent(
                time=datetime.now(UTC),
                action=action,
                step=step,
                path=str(self.path(step)),
                size_bytes=size_bytes,
                seconds=seconds,
                message=message,
                committed=committed,
            )
        )

    @contextmanager
    def _store_answers(self) -> Iterator[None]:
        """Makes one error of the many that an object store's client raises."""
        try:
            yield
        except TrainerError:
            raise
        except Exception as error:
            if not places.is_address(self.directory):
                raise
            raise StorageError(f"{str(self.directory)!r} does not answer: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What the operating system said, which TensorStore wraps in a ValueError of many lines."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(code[1])) if code else " ".join(f"{type(error).__name__}: {error}"[:500].split())
