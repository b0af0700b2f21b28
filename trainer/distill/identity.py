"""What tells one course of data, or one teacher, from another: fingerprints that a cache keeps."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from trainer.checkpoints import manifest, place_of
from trainer.checkpoints.folders import committed_steps
from trainer.data.loader import TrainingData
from trainer.restored import checkpoint_folder
from vishwamai.contract.resolved import ResolvedJob

_LOOKED_AT = 64
"""Windows that are hashed, spread evenly."""
_ENDS = 1 << 16
"""Bytes of both ends of a file of weights that are hashed: the first have its table of contents."""


def data_facts(job: ResolvedJob, data: TrainingData) -> dict[str, Any]:
    """What decides which tokens a numbered window holds."""
    facts = data.facts()
    return {
        "tokenizer": facts["tokenizer_fingerprint"],
        "corpus": facts["corpus_fingerprint"],
        "window_count": data.window_count,
        "windows": _windows_fingerprint(data),
    }


def _windows_fingerprint(data: TrainingData) -> str:
    """16 hexadecimal digits: of the tokens of some windows and of how documents lie in them."""
    count = min(data.window_count, _LOOKED_AT)
    batch = data.rows(np.arange(count) * data.window_count // count)
    hashed = hashlib.blake2b(digest_size=8)
    for field in (batch.inputs, batch.targets, batch.segments):
        hashed.update(np.ascontiguousarray(field, np.int32).tobytes())
    return hashed.hexdigest()


def files_fingerprint(folder: Path, run: ResolvedJob | None, step: int | None) -> str | None:
    """16 hexadecimal digits of a teacher's files, without reading its weights; None when there are none to look at.

    Of a run's checkpoint it is its manifest, which has every file's hash; of a Hugging Face folder, each file's name,
    size and both ends.
    """
    hashed = hashlib.blake2b(digest_size=8)
    try:
        if run is None:
            files = sorted(folder.glob("*.safetensors"))
            for path in files:
                hashed.update(f"{path.name} {path.stat().st_size}".encode() + _ends(path))
        else:
            checkpoints = place_of(checkpoint_folder(run, folder))
            steps = committed_steps(checkpoints)
            at = step if step is not None else max(steps, default=None)
            files = [checkpoints / str(at) / manifest.NAME] if at in steps else []
            for path in files:
                hashed.update(path.read_bytes())
    except OSError:
        return None
    return hashed.hexdigest() if files else None


def _ends(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(_ENDS)
        file.seek(max(path.stat().st_size - _ENDS, 0))
        return first + file.read(_ENDS)
