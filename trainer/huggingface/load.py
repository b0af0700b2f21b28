"""A Hugging Face folder to a model's description and its weights.

Weights become float32 and are laid out as ours (names.py). Each tensor is read alone into its place, so memory stays
near one copy of the weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import UserError
from trainer.huggingface.config import read_config
from trainer.huggingface.names import Tensor, tensors
from trainer.huggingface.tensor_folder import DTYPES, TensorFolder, read_json
from vishwamai.contract.config import ModelSection

Params = dict[str, Any]
"""Nested dictionaries of float32 arrays."""

_PREFIXES = ("model.", "model.language_model.", "language_model.model.")
"""Where the decoder is: in a model of its own, and in a model with images as newer and older versions name it."""
_HEADS = ("lm_head.", "language_model.lm_head.")
_IMAGE_PARTS = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


@dataclass(frozen=True, slots=True)
class Source:
    """A Hugging Face checkpoint: where it is, what its config.json says, and what that means."""

    folder: Path
    config: Mapping[str, Any]
    model: ModelSection


def read_source(folder: Path, max_seq_len: int | None = None) -> Source:
    """Reads config.json; `max_seq_len` is the training window, else max_position_embeddings is taken.

    Raises UserError when there is no such folder or file, or it describes a model that is not supported.
    """
    if not folder.is_dir():
        raise UserError(f"{str(folder)!r} is not a folder")
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{str(folder)!r} holds no config.json, so it is no Hugging Face checkpoint")
    config = read_json(path)
    try:
        return Source(folder, config, read_config(config, max_seq_len))
    except UserError as error:
        raise UserError(f"{str(folder)!r}: {error}") from error


def load_params(source: Source) -> Params:
    """The weights as nested dictionaries of float32 arrays.

    Raises UserError that names every tensor that is missing, unknown, of another shape, or in a format that is not
    supported.
    """
    stored = TensorFolder(source.folder)
    found = names_in(source, stored)
    params: Params = {}
    layers = source.model.num_layers
    for tensor in tensors(source.model):
        if tensor.layer in (None, 0):
            shape = tensor.shape[::-1] if tensor.transposed else tensor.shape
            stack = () if tensor.layer is None else (layers,)
            _put(params, tensor.path, np.empty((*stack, *shape), np.float32))
        weight = weight_at(params, tensor.path)
        place = weight if tensor.layer is None else weight[tensor.layer]
        fill(place, stored.read(found[tensor.name]), transposed=tensor.transposed)
    return params


def weight_at(params: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The weight that the keys of `path` lead to."""
    found: Any = params
    for key in path:
        found = found[key]
    return found


def fill(place: np.ndarray, numbers: np.ndarray, *, transposed: bool) -> None:
    """Copies `numbers`, or their transpose, and casts them to the format of `place`."""
    if not transposed:
        place[...] = numbers
        return
    rows = 16  # of float32 fill a cache line; all at once takes 6 times as long
    for start in range(0, len(numbers), rows):
        place[:, start : start + rows] = numbers[start : start + rows].T


def _put(params: Params, path: tuple[str, ...], weight: np.ndarray) -> None:
    for key in path[:-1]:
        params = params.setdefault(key, {})
    params[path[-1]] = weight


def names_in(source: Source, stored: TensorFolder) -> dict[str, str]:
    """The name in the files for each tensor of the model. Raises UserError as `load_params` says."""
    prefix = _prefix(stored)
    wanted = {tensor.name: tensor for tensor in tensors(source.model)}
    known = {_canonical(name, prefix): name for name in stored.headers}
    missing = [name for name in wanted if name not in known]
    extra = [name for ours, name in known.items() if ours not in wanted and not _may_be_left(ours, prefix)]
    if source.model.tie_embeddings and "lm_head.weight" in known:
        extra.remove(known["lm_head.weight"])
        _check_tied(stored, known["lm_head.weight"], known.get("model.embed_tokens.weight"))
    pairs = [(tensor, known[name]) for name, tensor in wanted.items() if name in known]
    problems = [
        _told("missing", missing),
        _told("unknown", extra),
        _told("of another shape", [_misshapen(tensor, name, stored) for tensor, name in pairs]),
        _told("in a format that is not supported", [_misformatted(name, stored) for _, name in pairs]),
    ]
    if any(problems):
        told = "; ".join(problem for problem in problems if problem)
        hint = " (lm_head.weight: tie_word_embeddings is false)" if "lm_head.weight" in missing else ""
        raise UserError(f"{str(source.folder)!r} does not fit its config.json: {told}{hint}")
    return {tensor.name: name for tensor, name in pairs}


def _prefix(stored: TensorFolder) -> str:
    for prefix in reversed(_PREFIXES):
        if any(name.startswith(prefix) for name in stored.headers):
            return prefix
    return _PREFIXES[0]


def _canonical(name: str, prefix: str) -> str:
    for head in _HEADS:
        if name.startswith(head):
            return "lm_head." + name.removeprefix(head)
    return "model." + name.removeprefix(prefix) if name.startswith(prefix) else name


def _may_be_left(name: str, prefix: str) -> bool:
    """Frequencies that old versions stored and nobody reads; beside a model with images, what sees them."""
    return name.endswith(".rotary_emb.inv_freq") or (prefix != _PREFIXES[0] and name.startswith(_IMAGE_PARTS))


def _check_tied(stored: TensorFolder, head: str, embedding: str | None) -> None:
    if embedding is not None and not np.array_equal(stored.read(head), stored.read(embedding)):
        raise UserError(
            f"tie_word_embeddings is true, and {head} is stored with other numbers than {embedding}: "
            "set it to false in config.json to use both"
        )


def _misshapen(tensor: Tensor, name: str, stored: TensorFolder) -> str | None:
    shape = stored.headers[name].shape
    return None if shape == tensor.shape else f"{name} {list(shape)} instead of {list(tensor.shape)}"


def _misformatted(name: str, stored: TensorFolder) -> str | None:
    dtype = stored.headers[name].dtype
    return None if dtype in DTYPES else f"{name} {dtype}"


def _told(what: str, names: Sequence[str | None]) -> str | None:
    told = [name for name in names if name is not None]
    return f"{len(told)} tensor{'s' * (len(told) > 1)} {what}: {', '.join(told)}" if told else None
