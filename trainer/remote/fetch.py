"""Folders of an object store, copied to this machine for what reads folders: checkpoints of Hugging Face, runs.

    CACHE/<name>-<16 hexadecimal digits>          whole: it gets this name when all of it is there
    CACHE/<name>-<16 hexadecimal digits>.<pid>    being copied; left behind by a process that was killed

The digits are those of the address and of every object's size and version, so another version is another copy, and a
copy that is there is not made again.
"""

import base64
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.errors import StorageError, UserError
from trainer.remote.addresses import Remote, remote, version
from trainer.remote.faults import blamed

_LOG = logging.getLogger(__name__)
_MODEL_FILES = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja"})
"""Of a checkpoint of Hugging Face; other formats of the same weights are left where they are."""
_RUN = "resolved.json"
_CHECKPOINTS = "checkpoints"


def fetched(address: str, field: str, cache: Path) -> Path:
    """A folder of this machine with what the model at an address needs, copied now unless it is there already.

    Args:
      address: a checkpoint of Hugging Face; or the output of a run, its folder of checkpoints or one of these, of which
        the newest is taken.
      field: the setting that names it.
      cache: folder of copies, made when there is none.

    Returns:
      The copy of what `address` names.

    Raises:
      UserError: there is nothing of the kind.
      StorageError: the store or the disk fails.
    """
    place = remote(address.rstrip("/"), field)
    run = _run_above(place)
    top = run or place
    wanted = _of_run(top, place) if run else _of_model(top)
    size = sum(int(info["size"]) for info in wanted.values())
    traits = [top.address, *(json.dumps([name, *version(info)]) for name, info in sorted(wanted.items()))]
    digits = hashlib.sha256("\n".join(traits).encode()).hexdigest()[:16]
    folder = cache / f"{PurePosixPath(top.path).name}-{digits}"
    if folder.is_dir():
        _LOG.info("%s: %s is in %s already", field, top.address, folder)
    else:
        _LOG.info("%s: copying %s, %.1f MB in %d files, to %s", field, top.address, size / 1e6, len(wanted), folder)
        began = time.perf_counter()
        _copy(top, wanted, folder)
        _LOG.info("%s: copied in %.1f s", field, time.perf_counter() - began)
    return folder / PurePosixPath(place.path).relative_to(top.path)


def _of_model(top: Remote) -> dict[str, dict[str, Any]]:
    """Objects by their paths below the folder of a checkpoint."""
    found = {_name(info): info for info in _files(top) if PurePosixPath(_name(info)).suffix in _MODEL_FILES}
    if "config.json" not in found:
        raise UserError(
            f"{top.field}: {top.address!r} holds neither a Hugging Face config.json nor the resolved.json of a run"
        )
    return found


def _of_run(top: Remote, place: Remote) -> dict[str, dict[str, Any]]:
    """Objects of a run's newest checkpoint, or of the one that `place` is, and of what describes the run."""
    steps = top / _CHECKPOINTS
    named = PurePosixPath(place.path).name
    if place.path != top.path and named.isdecimal():
        step = named
    else:
        names = [_name(entry) for entry in steps.entries() if entry["type"] == "directory"] if steps.info() else []
        numbers = [name for name in names if name.isdecimal()]
        if not numbers:
            raise UserError(f"{top.field}: {top.address!r} is a run without checkpoints: name one that has some")
        step = max(numbers, key=int)
    found = {_name(info): info for info in _files(top)}
    below = steps / step
    base = PurePosixPath(top.path)
    with blamed(below.address, below.field):
        objects = below.system.find(below.path, detail=True)
    if not objects:
        raise UserError(f"{top.field}: there is no checkpoint {below.address!r}")
    return found | {str(PurePosixPath(path.lstrip("/")).relative_to(base)): info for path, info in objects.items()}


def _run_above(place: Remote) -> Remote | None:
    """The output of a run that a place is, or lies in; None for a place that belongs to none."""
    path = PurePosixPath(place.path)
    above = [path, *path.parents[:2]] if path.name.isdecimal() else [path, *path.parents[:1]]
    for one in above:
        if len(one.parts) and (place.at(str(one)) / _RUN).info() is not None:
            return place.at(str(one))
    return None


def _files(top: Remote) -> Iterable[dict[str, Any]]:
    try:
        entries = top.entries()
    except UserError:
        top.check_bucket()
        raise
    return [entry for entry in entries if entry["type"] == "file"]


def _name(info: dict[str, Any]) -> str:
    return str(info["name"]).rstrip("/").rpartition("/")[2]


def _check(source: Remote, info: dict[str, Any], copy: Path) -> None:
    """Raises StorageError unless a copy has its object's size, and hash if the store tells it, and neither changed."""
    after = source.info() or {}
    if copy.stat().st_size != int(info["size"]) or any(
        after[name] != info[name] for name in ("size", "ETag", "etag", "generation") if name in after and name in info
    ):
        raise StorageError(f"{source.field}: {source.address!r} did not come whole, or changed while it was copied")
    if told := info.get("md5Hash"):
        with copy.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
        if found != told:
            raise StorageError(f"{source.field}: the copy of {source.address!r} has another hash than the store tells")


def _copy(top: Remote, wanted: dict[str, dict[str, Any]], folder: Path) -> None:
    """Copies objects, each checked by its size, and gives the folder its name when all are there."""
    new = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        for name, info in sorted(wanted.items()):
            target = new / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = top / name
            source.download(target)
            _check(source, info, target)
        if not folder.is_dir():
            new.replace(folder)
    except OSError as error:
        if folder.is_dir():  # another process of this machine was faster
            return
        raise StorageError(f"{top.field}: cannot keep a copy of {top.address!r} in {str(folder)!r}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
