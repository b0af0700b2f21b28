"""Saving and restoring the training state: when, from which checkpoint, and that all processes do the same.

A checkpoint is the folder <directory>/<step> with two Orbax items, `state` (the arrays) and `extra` (JSON), and a
manifest. Only once it is committed is it reported, and only then are others given up for it.
"""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from trainer.checkpoints import folders, places
from trainer.checkpoints.items import Items, shapes
from trainer.checkpoints.shelf import Shelf
from trainer.errors import StorageError, TrainerError, UserError
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.reports import CheckpointEvent

COMMIT_TIMEOUT_SECONDS = 3600
_SCRATCH, _FAILED = -1, -2

Check = Callable[[dict[str, Any], int], None]
"""Looks at what a checkpoint keeps beside its state, and at its step; raises what forbids to go on from it."""


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back."""

    state: Any
    """Pytree as the abstract state had it, on its devices."""
    step: int
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run. One save is under way at most; training goes on meanwhile.

    Process 0 alone decides, deletes and renames; it holds the folder's lock until `close`.

    Args:
      directory: folder or gs:// address where the folders of the steps are; a folder is made when absent.
      settings: which checkpoints are kept, and where to start from.
      on_event: told what became of each; called from the thread that commits, too.
      read_only: changes nothing there, so that another process may be saving meanwhile.

    Raises:
      UserError: the directory cannot be written to, or another trainer is at work in it.
      StorageError: its disk is full or broken, or the object store does not answer.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        settings: CheckpointSection,
        on_event: Callable[[CheckpointEvent], None],
        *,
        read_only: bool = False,
    ) -> None:
        # Every failure is raised and reported below; Orbax would log each several times over, with its traceback.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        place = places.place_of(directory)
        if not read_only:
            folders.prepare(place)
        self._settings = settings
        self._shelf = Shelf(place, settings, on_event, keeper=jax.process_index() == 0 and not read_only)
        self._current: int | None = None
        """The newest checkpoint on this run's own course."""
        self._items = Items(timeout_seconds=COMMIT_TIMEOUT_SECONDS)
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-commit")
        self._saving: Future[None] | None = None

    def committed_steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        return self._shelf.committed_steps()

    def save(self, state: Any, step: int, extra: dict[str, Any]) -> None:
        """Begins to save, and waits for the commit unless checkpoint.asynchronous.

        The state may be donated as soon as this returns. A step just saved or restored is not saved again.

        Raises:
          StorageError: this save or the one before failed; what was committed before is intact.
        """
        self.wait()
        if step == self._current:
            return
        path = self._shelf.path(step)
        began = time.monotonic()
        try:
            if self._shelf.keeper and path.exists():
                self._shelf.leave(step, "saved anew")
            folders.check_space(self._shelf.directory, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            self._items.begin(path, state, extra)
        except Exception as error:
            raise self._shelf.failed(step, error) from error
        self._shelf.note(step, extra)
        self._saving = self._committer.submit(self._commit, step, began)
        if not self._settings.asynchronous:
            self.wait()

    def wait(self) -> None:
        """Waits for the save under way. Raises StorageError when it failed."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self) -> None:
        """Waits, then lets go of threads and of the folder. Raises StorageError when the last save failed."""
        try:
            self.wait()
        finally:
            self._committer.shutdown()
            with suppress(Exception):  # of a save that failed, which was told when it did
                self._items.close()
            self._shelf.release()

    def restore(self, abstract_state: Any, check: Check = lambda _, __: None) -> Restored | None:
        """Reads the checkpoint that checkpoint.restore asks for; None when the run starts from scratch.

        'newest' passes over damaged checkpoints to the one before. Checkpoints newer than the one restored (with
        'never', all) belong to a course that this run leaves: they are set aside, so that a restart finds its own.

        Args:
          abstract_state: pytree of jax.ShapeDtypeStruct with shardings; any mesh will do.
          check: called before arrays are read; what it raises is raised, and nothing is set aside.

        Raises:
          UserError: the step asked for is not there or damaged, or all checkpoints are, or the state has other
          parameters than the config's.
          StorageError: an intact checkpoint could not be read.
        """
        self.wait()
        step = self._agreed_step()
        restored = None if step is None else self._read(step, abstract_state, check)
        if self._shelf.keeper:
            for newer in self.committed_steps():
                if step is None or newer > step:
                    why = "the run starts from scratch" if step is None else f"the run starts from {step}"
                    self._shelf.leave(newer, why)
            self._shelf.tidy_aside()
        self._current = step
        return restored

    def went_back(self, step: int | None) -> None:
        """The run goes on from another checkpoint than its newest, or from the beginning: later ones are saved anew."""
        self._current = step

    def read_part(self, abstract: dict[str, Any]) -> tuple[dict[str, Any], int] | None:
        """Some fields of the state that `restore` would read, such as {"params": ...}, and its step; or None.

        Nothing else is read: weights are a third of a state with AdamW's moments. Raises as `restore` does.
        """
        step = self._intact_step()
        if step is None:
            return None
        path, wanted = self._shelf.path(step), shapes(abstract)
        self._compare(path, {name: shape for name, shape in self._shapes(path).items() if name in wanted}, wanted)
        return self._reading(path, lambda: self._items.read_part(path, abstract)), step

    def extra(self, step: int) -> dict[str, Any]:
        """What the committed checkpoint of `step` keeps beside its state."""
        return self._shelf.extra(step)

    def _read(self, step: int, abstract_state: Any, check: Check) -> Restored:
        began = time.monotonic()
        path = self._shelf.path(step)
        check(self._shelf.extra(step), step)
        self._compare(path, self._shapes(path), shapes(abstract_state))
        state, extra = self._reading(path, lambda: self._items.read(path, abstract_state))
        seconds, size = time.monotonic() - began, self._shelf.size(step)
        # A life that was killed may not have told what became of the others.
        self._shelf.tell("restored", step, size_bytes=size, seconds=seconds, committed=self.committed_steps())
        return Restored(state, step, extra)

    def _shapes(self, path: epath.Path) -> dict[str, str]:
        return self._reading(path, lambda: self._items.shapes(path))

    def _reading[T](self, path: epath.Path, read: Callable[[], T]) -> T:
        try:
            return read()
        except Exception as error:
            raise StorageError(f"the checkpoint {path} is intact, but restoring it failed: {error}") from error

    def _agreed_step(self) -> int | None:
        """The step to start from, as process 0 finds it: others would see those vanish that it sets aside."""
        if jax.process_count() == 1:
            return self._intact_step()
        failure: TrainerError | None = None
        choice = _SCRATCH
        if jax.process_index() == 0:
            try:
                found = self._intact_step()
                choice = _SCRATCH if found is None else found
            except TrainerError as error:
                failure, choice = error, _FAILED
        choice = int(multihost_utils.broadcast_one_to_all(np.int32(choice)))
        if choice == _FAILED:
            raise failure or StorageError("process 0 found no checkpoint to start from, and says why")
        return None if choice == _SCRATCH else choice

    def _intact_step(self) -> int | None:
        wanted = self._settings.restore
        if wanted == "never":
            return None
        steps = self.committed_steps()
        if wanted == "newest":
            intact = next((step for step in reversed(steps) if self._shelf.is_intact(step)), None)
            if steps and intact is None:
                raise UserError(
                    f"none of the committed checkpoints in {str(self._shelf.directory)!r} is intact, and a run that "
                    f"had come to step {steps[-1]} does not start over unasked: put a sound copy of one back in its "
                    "place, or start again to train from scratch (the damaged ones are kept beside it as *.corrupt)"
                )
            return intact
        if wanted not in steps or not self._shelf.is_intact(wanted):
            there = ", ".join(str(step) for step in self.committed_steps() if step != wanted) or "none"
            raise UserError(
                f"checkpoint.restore asks for step {wanted}, but {str(self._shelf.directory)!r} has none to use: "
                f"choose one of the committed steps ({there}), or 'newest'"
            )
        return wanted

    def _compare(self, path: epath.Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
        """Raises UserError naming the arrays in which checkpoint and config differ."""
        if saved == wanted:
            return
        differing = (name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
        names = sorted(differing, key=lambda name: (name.count("."), name))
        listed = "; ".join(f"{n}: {saved.get(n, 'absent')} saved, {wanted.get(n, 'absent')} now" for n in names[:5])
        more = f"; and {len(names) - 5} more" if len(names) > 5 else ""
        raise UserError(
            f"the checkpoint {path} is of another model or optimizer than the config ({listed}{more}): restore the "
            "settings it was saved with, or set checkpoint.restore to 'never' or checkpoint.directory to a new folder"
        )

    def _commit(self, step: int, began: float) -> None:
        try:
            self._items.finish()
        except Exception as error:
            raise self._shelf.failed(step, error) from error
        self._current = step
        size: int | None = None
        with suppress(StorageError):  # of an object store that is away since
            size = self._shelf.size(step)
        self._shelf.tell("committed", step, size_bytes=size, seconds=time.monotonic() - began)
        if self._shelf.keeper and not self._shelf.give_up_surplus(step):
            self._current = None
