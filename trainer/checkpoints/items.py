"""Orbax, and what of it we use: two items in a folder, `state` (arrays) and `extra` (JSON), and our manifest."""

import os
from typing import Any, Protocol

import jax
from etils import epath

from trainer.checkpoints import manifest

# Were it true, Orbax would put every Prometheus client of this process into multiprocess mode.
os.environ["ENABLE_ORBAX_PROMETHEUS_TELEMETRY"] = "false"
import orbax.checkpoint as ocp

Tree = Any
"""A pytree of arrays, or of jax.ShapeDtypeStruct with shardings."""


class _WithManifest(ocp.CompositeCheckpointHandler):
    """The two items, and the manifest, added when both are written and nothing is committed yet."""

    def __init__(self) -> None:
        registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
        arrays, extra = ocp.StandardCheckpointHandler(), ocp.JsonCheckpointHandler()
        for arguments in (ocp.args.StandardSave, ocp.args.StandardRestore):
            registry.add("state", arguments, arrays)
        registry.add("state", ocp.args.PyTreeRestore, ocp.PyTreeCheckpointHandler())
        for arguments in (ocp.args.JsonSave, ocp.args.JsonRestore):
            registry.add("extra", arguments, extra)
        super().__init__(handler_registry=registry)

    def finalize(self, directory: Any) -> None:
        super().finalize(directory)
        manifest.write(epath.Path(directory))


@ocp.args.register_with_handler(_WithManifest, for_save=True, for_restore=True)
class _Items(ocp.args.Composite):
    """The items of one checkpoint."""


class Items:
    """Writes and reads the items of checkpoints, each in a folder that is committed whole or not at all.

    Every process of a run makes the same calls.
    """

    def __init__(self, *, timeout_seconds: int) -> None:
        """A save that is not committed after `timeout_seconds` fails."""
        # No _CHECKPOINT_METADATA: Orbax would rewrite it while it commits, when no hash of it can be kept any more.
        self._orbax = ocp.AsyncCheckpointer(
            _WithManifest(),
            async_options=ocp.options.AsyncOptions(timeout_secs=timeout_seconds),
            checkpoint_metadata_store=ocp.metadata.metadata_store(enable_write=False),
        )

    def begin(self, folder: epath.Path, state: Tree, extra: dict[str, Any]) -> None:
        """Begins to save: the arrays may be overwritten when this returns."""
        self._orbax.save(folder, args=_Items(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra)))

    def finish(self) -> None:
        """Waits until what was begun is committed; raises what went wrong."""
        self._orbax.wait_until_finished()

    def read(self, folder: epath.Path, abstract: Tree) -> tuple[Tree, dict[str, Any]]:
        """The state as `abstract` has it, on its devices, and the extra."""
        items = _Items(state=ocp.args.StandardRestore(abstract), extra=ocp.args.JsonRestore())
        found = self._orbax.restore(folder, args=items)
        return found.state, found.extra

    def read_part(self, folder: epath.Path, abstract: dict[str, Tree]) -> dict[str, Tree]:
        """Some of the state's fields; arrays of the others are not read."""
        places = ocp.checkpoint_utils.construct_restore_args(abstract)
        part = ocp.args.PyTreeRestore(abstract, restore_args=places, partial_restore=True)
        found: dict[str, Tree] = self._orbax.restore(folder, args=_Items(state=part)).state
        return found

    def shapes(self, folder: epath.Path) -> dict[str, str]:
        """How each saved array reads, by its dotted name, such as 'float32[8, 16]'."""
        return shapes(self._orbax.metadata(folder).item_metadata["state"].tree)

    def close(self) -> None:
        """Lets go of threads."""
        self._orbax.close()


class _Array(Protocol):
    shape: tuple[int, ...]
    dtype: Any


def shapes(tree: Tree) -> dict[str, str]:
    """How each array of a tree reads, by its dotted name."""

    def read(array: _Array) -> str:
        return f"{jax.numpy.dtype(array.dtype).name}{list(array.shape)}"

    return {name: read(array) for name, array in ocp.tree.to_flat_dict(tree, sep=".").items()}
