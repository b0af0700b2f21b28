"""What eight-bit products cost beside bfloat16's, as measured; the numbers are data (`low_precision.json`)."""

import json
from functools import cache
from importlib import resources
from typing import Literal

NATIVE_FP8 = frozenset({"tpu7x"})
"""TPU generations whose matrix units multiply FP8 numbers faster than bfloat16's."""


@cache
def _ratios() -> dict[str, dict[str, float]]:
    text = resources.files("vishwamai.contract").joinpath("low_precision.json").read_text(encoding="utf-8")
    ratios: dict[str, dict[str, float]] = json.loads(text)["ratios"]
    return ratios


def cycle_ratio(accelerator: str, kind: Literal["fp8", "int8"]) -> float:
    """Cycles of an MLP block of width 8192, forward and backward, as a multiple of those in bfloat16.

    By the TPU compiler's estimate: `make bench ARGS=precision`.
    """
    return _ratios()[accelerator][kind]
