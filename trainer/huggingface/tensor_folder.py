"""A folder of safetensors files, read one tensor at a time and written shard by shard.

A checkpoint is model.safetensors, or shards with model.safetensors.index.json beside them, whose weight_map says which
tensor is in which shard. Shards are filled in the order of the tensors, as huggingface_hub does, so that the same
tensors under the same limit give the same files.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trainer.errors import StorageError, UserError

DTYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
"""Formats that weights may have, by safetensors' names."""

_ONE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about a tensor before its numbers."""

    file: Path
    dtype: str
    """safetensors' name, such as F32."""
    shape: tuple[int, ...]


class TensorFolder:
    """The tensors of a checkpoint's folder; numbers are read when asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError when files are missing, cut short, or contradict the index."""
        self._folder = folder
        self.headers: dict[str, Header] = {}
        """By the name that the files use."""
        self._open: tuple[Path, Any] | None = None
        for file in self._files():
            self._read_headers(file)
        lost = sorted(set(self._index) - self.headers.keys())
        if lost:
            raise UserError(f"{str(folder / _INDEX)!r} lists tensors that its files lack: {_some(lost)}")

    def _files(self) -> list[Path]:
        if self._index:
            files = sorted({self._folder / name for name in self._index.values()})
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise UserError(f"{str(self._folder)!r} lacks shards that {_INDEX} lists: {', '.join(missing)}")
            return files
        if not (self._folder / _ONE).is_file():
            hint = ""
            if any(self._folder.glob("*.bin")) or any(self._folder.glob("*.pth")):
                hint = "; PyTorch's own files are not read: save the model as safetensors"
            raise UserError(f"{str(self._folder)!r} holds neither {_ONE} nor {_INDEX}{hint}")
        return [self._folder / _ONE]

    @cached_property
    def _index(self) -> dict[str, str]:
        """Shard names by tensor; empty for a checkpoint of one file."""
        path = self._folder / _INDEX
        if (self._folder / _ONE).is_file() or not path.is_file():
            return {}
        weight_map = read_json(path).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map or not all(map(_plain_name, weight_map.values())):
            raise UserError(f"{str(path)!r} has no usable weight_map from tensors to files of its folder")
        return weight_map

    def _read_headers(self, file: Path) -> None:
        try:
            with safe_open(file, framework="numpy") as opened:
                for name in opened.keys():  # noqa: SIM118 - safe_open is no mapping
                    part = opened.get_slice(name)
                    self.headers[name] = Header(file, part.get_dtype(), tuple(part.get_shape()))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{str(file)!r} cannot be read as safetensors: {error}") from error

    def read(self, name: str) -> np.ndarray:
        """The tensor as stored, in its own format."""
        file = self.headers[name].file
        if self._open is None or self._open[0] != file:
            self._open = (file, safe_open(file, framework="numpy"))
        return self._open[1].get_tensor(name)


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object. Raises UserError when it does not."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise UserError(f"{str(path)!r} holds no JSON object")
    return document


def _plain_name(name: object) -> bool:
    """An index may name files of its own folder alone."""
    return isinstance(name, str) and bool(name) and Path(name).name == name


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@dataclass(frozen=True, slots=True)
class Pending:
    """A tensor that is made when its shard is written."""

    name: str
    size: int
    """Elements."""
    nbytes: int
    make: Callable[[], np.ndarray]
    """Gives it contiguous."""


def write_folder(folder: Path, tensors: Iterable[Pending], max_shard_bytes: int) -> None:
    """Writes one file, or shards and their index when one would be larger than `max_shard_bytes`.

    Numbers of one shard are in memory at a time. Raises StorageError when the disk refuses.
    """
    shards = list(_shards(tensors, max_shard_bytes))
    names = [_ONE]
    if len(shards) > 1:
        names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for file, shard in zip(names, shards, strict=True):
        made = {one.name: one.make() for one in shard}
        try:
            save_file(made, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise StorageError(f"{str(folder / file)!r} could not be written: {error}") from error
    if len(shards) > 1:
        everything = [one for shard in shards for one in shard]
        metadata = {
            "total_parameters": sum(one.size for one in everything),
            "total_size": sum(one.nbytes for one in everything),
        }
        weight_map = {one.name: file for file, shard in zip(names, shards, strict=True) for one in shard}
        write_json(folder / _INDEX, {"metadata": metadata, "weight_map": weight_map})


def _shards(tensors: Iterable[Pending], limit: int) -> Iterator[list[Pending]]:
    """Fills shards in order. A tensor above the limit gets one of its own, and the shard begun before goes on after."""
    shard: list[Pending] = []
    filled = 0
    for tensor in tensors:
        if tensor.nbytes > limit:
            yield [tensor]
            continue
        if filled + tensor.nbytes > limit:
            yield shard
            shard, filled = [], 0
        shard.append(tensor)
        filled += tensor.nbytes
    if shard:
        yield shard


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Writes JSON as transformers lays it out."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
