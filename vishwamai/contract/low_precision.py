"""What eight-bit products cost beside bfloat16's, as measured; the numbers are data (`low_precision.json`)."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

NATIVE_FP8 = frozenset({"tpu7x"})
"""TPU generations whose matrix units multiply FP8 numbers faster than bfloat16's."""
WIDEST = 8192


@dataclass(frozen=True, slots=True)
class Measured:
    """What an MLP block costs, forward and backward, by the TPU compiler's estimate."""

    ratio: float
    """Cycles, as a multiple of those in bfloat16."""
    width: int
    """Of the block."""

    def __str__(self) -> str:
        """As decisions say it."""
        return f"{self.ratio:.2f} times bfloat16's cycles for an MLP block of width {self.width}"


@cache
def _ratios() -> dict[str, dict[str, dict[str, float]]]:
    text = resources.files("vishwamai.contract").joinpath("low_precision.json").read_text(encoding="utf-8")
    ratios: dict[str, dict[str, dict[str, float]]] = json.loads(text)["ratios"]
    return ratios


def measured(accelerator: str, kind: Literal["fp8", "int8"], width: int = WIDEST) -> Measured:
    """What was measured for the greatest width that is no greater than this one, else for the smallest."""
    by_width = {int(text): ratio for text, ratio in _ratios()[accelerator][kind].items()}
    nearest = max((one for one in by_width if one <= width), default=min(by_width))
    return Measured(by_width[nearest], nearest)
