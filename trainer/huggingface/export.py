"""Weights of ours to a Hugging Face folder that transformers loads as its own.

Import and export are inverse: a checkpoint that was read and written again has the same tensors to the last bit.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from trainer.endings import folder_problem
from trainer.errors import UserError
from trainer.huggingface.load import Source, fill, names_in, weight_at
from trainer.huggingface.names import Tensor, tensors
from trainer.huggingface.start import differences
from trainer.huggingface.tensor_folder import DTYPES, Pending, TensorFolder, write_folder, write_json
from trainer.huggingface.write import exportable, write_config
from vishwamai.contract.config import ModelSection, TrainingConfig

MAX_SHARD_BYTES = 5_000_000_000
DTYPE_NAMES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_COMPANIONS = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files that belong to a checkpoint's text side and are passed on."""


def export_checkpoint(
    params: Mapping[str, Any],
    model: ModelSection,
    folder: Path,
    *,
    dtype: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    source: Source | None = None,
    token_ids: Mapping[str, int | None] | None = None,
    run: TrainingConfig | None = None,
) -> None:
    """Writes weights, config.json, and the text files of `source`, the checkpoint that was imported.

    `run`, the config that the weights were trained with, gives the tokenizer where `source` has none.

    `dtype` is float32 or bfloat16; without it each tensor keeps the source's format, and is float32 when there is none.
    The source's config.json is kept when it describes this model; otherwise one is written, with the `token_ids`
    (eos_token_id and the like). Raises UserError when transformers cannot express the model or the folder is in use,
    StorageError when the disk fails.
    """
    named = exportable(model)
    if source is not None and differences(named, source.model):
        source = None
    formats = _formats(named, dtype, source)
    config = _config(named, dtype, source, token_ids or {})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{str(folder)!r} is not empty: choose a new folder")
        write_folder(folder, _pending(params, tensors(named), formats), max_shard_bytes)
        if source is not None and config == source.config:
            shutil.copyfile(source.folder / "config.json", folder / "config.json")
        else:
            write_json(folder / "config.json", config)
        if source is not None:
            _pass_on(source.folder, folder)
        if run is not None and not (folder / "tokenizer.json").exists():
            from trainer.huggingface.tokenizer import write_tokenizer  # brings jax, whose devices are chosen by now

            write_tokenizer(run, folder)
    except OSError as error:
        raise folder_problem(folder, error) from error


def _formats(model: ModelSection, dtype: str | None, source: Source | None) -> dict[str, np.dtype[Any]]:
    """The format of each tensor."""
    if dtype is not None or source is None:
        return dict.fromkeys((tensor.name for tensor in tensors(model)), DTYPE_NAMES[dtype or "float32"])
    stored = TensorFolder(source.folder)
    return {ours: DTYPES[stored.headers[name].dtype] for ours, name in names_in(source, stored).items()}


def _config(
    model: ModelSection, dtype: str | None, source: Source | None, token_ids: Mapping[str, int | None]
) -> dict[str, Any]:
    if source is None:
        return write_config(model, dtype or "float32", token_ids)
    config = dict(source.config)
    if "text_config" in config:  # only its text part is ours to write
        text = config["text_config"]
        stored = str(text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype"))
        return write_config(model, dtype or stored, {**config, **text})
    if dtype is not None:
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
    return config


def _pending(params: Mapping[str, Any], every: list[Tensor], formats: Mapping[str, np.dtype[Any]]) -> Iterator[Pending]:
    for tensor in every:
        size = int(np.prod(tensor.shape))
        format_ = formats[tensor.name]
        yield Pending(tensor.name, size, size * format_.itemsize, _maker(params, tensor, format_))


def _maker(params: Mapping[str, Any], tensor: Tensor, format_: np.dtype[Any]) -> Any:
    def make() -> np.ndarray:
        weight = weight_at(params, tensor.path)
        numbers = np.asarray(weight if tensor.layer is None else weight[tensor.layer])
        assert numbers.shape == (tensor.shape[::-1] if tensor.transposed else tensor.shape), tensor
        made = np.empty(tensor.shape, format_)
        fill(made, numbers, transposed=tensor.transposed)
        return made

    return make


def _pass_on(source: Path, folder: Path) -> None:
    for name in _COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
