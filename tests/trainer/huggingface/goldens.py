"""The checkpoints in tests/goldens and what transformers computes with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[2] / "goldens"
NAMES = ("gemma", "llama", "llama31", "qwen2", "llama_sharded_bf16")

TOLERANCE = 2e-4
"""On logits and hidden states of size 1 to 20: additions in another order differ by up to 4e-5; the smallest mistake
that the goldens can show, erf for tanh gelu, by 2e-3."""


def config_of(name: str, *, version: int = 4) -> dict[str, Any]:
    """config.json in the keys of transformers 4 or 5."""
    file = "config.json" if version == 4 else "config.transformers5.json"
    document: dict[str, Any] = json.loads((FOLDER / name / file).read_text(encoding="utf-8"))
    return document


def golden_of(name: str) -> dict[str, np.ndarray]:
    """The arrays of golden.npz."""
    with np.load(FOLDER / name / "golden.npz") as archive:
        return dict(archive)
