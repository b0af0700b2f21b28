"""Folders that `save_to_disk` of Hugging Face `datasets` writes: which files hold the rows, and in what order.

A dataset is a folder of Arrow streams that its state.json lists; several splits are folders below a dataset_dict.json.
"""

import json
from collections.abc import Callable
from typing import Any

from trainer.data.sources.messages import named
from trainer.errors import UserError

_STATE = "state.json"
_SPLITS = "dataset_dict.json"


def files(folder: str, field: str, below: set[str], read: Callable[[str], bytes]) -> list[str]:
    """Names of a saved dataset's files, in order; none when the folder holds no saved dataset.

    Args:
      folder: path or address, as messages and the result name it.
      field: the setting that named it.
      below: names of what the folder holds.
      read: the content of one of them.
    """
    folder = folder.rstrip("/")
    if _SPLITS in below:
        splits = _json(read(_SPLITS), f"{folder}/{_SPLITS}", field).get("splits")
        known = named(f"{folder}/{split}" for split in splits or [])
        raise UserError(f"{field}: {folder!r} is a saved dataset of several splits: name one of them ({known})")
    if _STATE not in below:
        return []
    state = _json(read(_STATE), f"{folder}/{_STATE}", field)
    if state.get("_indices_data_files"):
        raise UserError(
            f"{field}: {folder!r} is a saved dataset whose rows another file chooses: save it again, after "
            "flatten_indices()"
        )
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "filename" in one for one in listed):
        raise UserError(f"{field}: {folder}/{_STATE} lists no _data_files: it is not a dataset that save_to_disk wrote")
    names = [str(one["filename"]) for one in listed]
    if missing := [name for name in names if name not in below]:
        raise UserError(
            f"{field}: the saved dataset {folder!r} lacks {', '.join(missing)}, which {_STATE} lists: copy it whole"
        )
    if not names:
        raise UserError(f"{field}: the saved dataset {folder!r} has no rows: name one that has some")
    return [f"{folder}/{name}" for name in names]


def _json(content: bytes, name: str, field: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise UserError(f"{field}: {name!r} is not JSON ({error}): copy the dataset anew") from error
    if not isinstance(value, dict):
        raise UserError(f"{field}: {name!r} holds no JSON object: copy the dataset anew")
    return value
