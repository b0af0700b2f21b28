"""Saving and restoring the training state with Orbax.

A checkpoint is the folder <directory>/<step> with two Orbax items, `state` (the arrays) and `extra` (JSON), and a
manifest. Orbax writes it under another name and renames it when all is there: that is the commit, and only then is it
reported.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import jax

from trainer.checkpoints import folders, manifest
from trainer.checkpoints.folders import committed_steps
from trainer.errors import StorageError, UserError
from vishwamai.contract.config import CheckpointSection
from vishwamai.contract.reports import CheckpointEvent

# Were it true, Orbax would put every Prometheus client of this process into multiprocess mode.
os.environ["ENABLE_ORBAX_PROMETHEUS_TELEMETRY"] = "false"
import orbax.checkpoint as ocp

logger = logging.getLogger(__name__)

_COMMIT_TIMEOUT_SECONDS = 3600


@dataclass(frozen=True)
class Restored:
    """A checkpoint read back."""

    state: Any
    """Pytree as the abstract state had it, on its devices."""
    step: int
    extra: dict[str, Any]


class _WithManifest(ocp.CompositeCheckpointHandler):
    """The two items, and the manifest, added when both are written and nothing is committed yet."""

    def __init__(self) -> None:
        registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
        arrays, extra = ocp.StandardCheckpointHandler(), ocp.JsonCheckpointHandler()
        for arguments in (ocp.args.StandardSave, ocp.args.StandardRestore):
            registry.add("state", arguments, arrays)
        for arguments in (ocp.args.JsonSave, ocp.args.JsonRestore):
            registry.add("extra", arguments, extra)
        super().__init__(handler_registry=registry)

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        manifest.write(Path(directory))


@ocp.args.register_with_handler(_WithManifest, for_save=True, for_restore=True)
class _Items(ocp.args.Composite):
    """The items of one checkpoint."""


class Checkpoints:
    """The checkpoints of one run. One save is under way at most; training goes on meanwhile.

    Args:
      directory: where the folders of the steps are; made when absent.
      settings: which checkpoints are kept, and where to start from.
      on_event: told what became of each; called from the thread that commits, too.
      read_only: changes nothing there, so that another process may be saving meanwhile.

    Raises:
      UserError, StorageError: the directory cannot be written to.
    """

    def __init__(
        self,
        directory: Path,
        settings: CheckpointSection,
        on_event: Callable[[CheckpointEvent], None],
        *,
        read_only: bool = False,
    ) -> None:
        # Every failure is raised and reported below; Orbax would log each several times over, with its traceback.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        if not read_only:
            folders.prepare(directory)
        self._directory = directory.absolute()
        self._settings = settings
        self._on_event = on_event
        self._primary = jax.process_index() == 0 and not read_only
        self._current: int | None = None
        """The newest checkpoint on this run's own course."""
        if self._primary:
            folders.clean(self._directory)
            for step in folders.uncommitted_steps(self._directory):
                self._reject(step, "it was never committed")
        self._orbax = ocp.AsyncCheckpointer(
            _WithManifest(), async_options=ocp.options.AsyncOptions(timeout_secs=_COMMIT_TIMEOUT_SECONDS)
        )
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-commit")
        self._saving: Future[None] | None = None

    def committed_steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        return committed_steps(self._directory)

    def save(self, state: Any, step: int, extra: dict[str, Any]) -> None:
        """Begins to save, and waits for the commit unless checkpoint.asynchronous.

        The state may be donated as soon as this returns. A step just saved or restored is not saved again.

        Raises:
          StorageError: this save or the one before failed; what was committed before is intact.
        """
        self.wait()
        path = self._path(step)
        if step == self._current:
            return
        if path.exists() and self._primary:
            self._leave(step, "saved anew")
        began = time.monotonic()
        try:
            folders.check_space(self._directory, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            items = _Items(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra))
            self._orbax.save(path, args=items)
        except Exception as error:
            raise self._failed(step, error) from error
        self._saving = self._committer.submit(self._commit, step, began)
        if not self._settings.asynchronous:
            self.wait()

    def wait(self) -> None:
        """Waits for the save under way. Raises StorageError when it failed."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def close(self) -> None:
        """Waits, then lets go of threads. Raises StorageError when the last save failed."""
        try:
            self.wait()
        finally:
            self._committer.shutdown()
            with suppress(Exception):  # of a save that failed, which was told when it did
                self._orbax.close()

    def restore(self, abstract_state: Any) -> Restored | None:
        """Reads the checkpoint that checkpoint.restore asks for; None when the run starts from scratch.

        'newest' passes over damaged checkpoints to the one before. Checkpoints newer than the one restored (with
        'never', all) belong to a course that this run leaves: they are set aside, so that a restart finds its own.

        Args:
          abstract_state: pytree of jax.ShapeDtypeStruct with shardings; any mesh will do.

        Raises:
          UserError: the step asked for is not there or damaged, or all checkpoints are, or the state has other
          parameters than the config's.
          StorageError: an intact checkpoint could not be read.
        """
        self.wait()
        step = self._intact_step()
        restored = None if step is None else self._read(step, abstract_state)
        if self._primary:
            for newer in self.committed_steps():
                if step is None or newer > step:
                    self._leave(newer, "the run starts from scratch" if step is None else f"the run starts from {step}")
        self._current = step
        return restored

    def _read(self, step: int, abstract_state: Any) -> Restored:
        began = time.monotonic()
        path = self._path(step)
        try:
            self._check_shapes(path, abstract_state)
            items = _Items(state=ocp.args.StandardRestore(abstract_state), extra=ocp.args.JsonRestore())
            found = self._orbax.restore(path, args=items)
        except UserError:
            raise
        except Exception as error:
            raise StorageError(f"the checkpoint {path} is intact, but restoring it failed: {error}") from error
        self._tell("restored", step, size_bytes=manifest.size_bytes(path), seconds=time.monotonic() - began)
        return Restored(found.state, step, found.extra)

    def _intact_step(self) -> int | None:
        wanted = self._settings.restore
        if wanted == "never":
            return None
        steps = self.committed_steps()
        if wanted == "newest":
            intact = next((step for step in reversed(steps) if self._is_intact(step)), None)
            if steps and intact is None:
                raise UserError(
                    f"none of the committed checkpoints in {str(self._directory)!r} is intact, and a run that had come "
                    f"to step {steps[-1]} does not start over unasked: put a sound copy of one back in its place, or "
                    "start again to train from scratch (the damaged ones are kept beside it as *.corrupt)"
                )
            return intact
        if wanted not in steps or not self._is_intact(wanted):
            there = ", ".join(map(str, self.committed_steps())) or "none"
            raise UserError(
                f"checkpoint.restore asks for step {wanted}, but {str(self._directory)!r} has none to use: "
                f"choose one of the committed steps ({there}), or 'newest'"
            )
        return wanted

    def _is_intact(self, step: int) -> bool:
        path = self._path(step)
        try:
            manifest.verify(path)
        except manifest.DamagedCheckpoint as damage:
            if self._primary:
                self._reject(step, str(damage))
            return False
        except PermissionError as error:
            raise StorageError(f"the checkpoint {path} cannot be read: {error.strerror}") from error
        return True

    def _check_shapes(self, path: Path, abstract_state: Any) -> None:
        """Raises UserError naming the arrays in which checkpoint and config differ."""
        saved = _arrays(self._orbax.metadata(path).item_metadata["state"].tree)
        wanted = _arrays(abstract_state)
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
            self._orbax.wait_until_finished()
        except Exception as error:
            raise self._failed(step, error) from error
        self._current = step
        size = manifest.size_bytes(self._path(step))
        self._tell("committed", step, size_bytes=size, seconds=time.monotonic() - began)
        if self._primary:
            self._give_up_surplus()

    def _give_up_surplus(self) -> None:
        steps = self.committed_steps()
        for step in folders.surplus(steps, self._settings.keep_last, self._settings.keep_every):
            try:
                folders.delete(self._path(step))
            except OSError as error:
                logger.warning("checkpoint %s could not be deleted: %s", self._path(step), error)
            else:
                self._tell("deleted", step)

    def _leave(self, step: int, why: str) -> None:
        aside = folders.set_aside(self._path(step), "superseded")
        self._tell("deleted", step, message=f"{why}; set aside as {aside.name}")

    def _reject(self, step: int, why: str) -> None:
        aside = folders.set_aside(self._path(step), "corrupt")
        self._tell(
            "corrupt", step, message=f"the checkpoint of step {step} is unusable: {why}; set aside as {aside.name}"
        )

    def _failed(self, step: int, error: Exception) -> StorageError:
        if self._primary:
            folders.clean(self._directory)
        kept = ", ".join(map(str, self.committed_steps())) or "none"
        free = shutil.disk_usage(self._directory).free
        message = (
            f"the checkpoint of step {step} could not be saved to {str(self._directory)!r}: {_reason(error)} "
            f"({free:,} bytes are free there). Committed checkpoints are intact ({kept}). Free space there, lower "
            "checkpoint.keep_last, or choose another checkpoint.directory; the run then goes on from the newest"
        )
        self._tell("failed", step, message=message)
        return StorageError(message)

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _tell(
        self,
        action: Literal["committed", "restored", "deleted", "failed", "corrupt"],
        step: int,
        *,
        size_bytes: int | None = None,
        seconds: float | None = None,
        message: str | None = None,
    ) -> None:
        path = str(self._path(step))
        now = datetime.now(UTC)
        self._on_event(
            CheckpointEvent(
                time=now, action=action, step=step, path=path, size_bytes=size_bytes, seconds=seconds, message=message
            )
        )


def _reason(error: Exception) -> str:
    """What the operating system said, which TensorStore wraps in a ValueError of many lines."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(code[1])) if code else f"{type(error).__name__}: {error}"[:500]


class _Array(Protocol):
    shape: tuple[int, ...]
    dtype: Any


def _arrays(tree: Any) -> dict[str, str]:
    """How each array of a tree reads, by its dotted name."""

    def read(array: _Array) -> str:
        return f"{jax.numpy.dtype(array.dtype).name}{list(array.shape)}"

    return {name: read(array) for name, array in ocp.tree.to_flat_dict(tree, sep=".").items()}
