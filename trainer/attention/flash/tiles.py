"""Sizes of the kernels' tiles, and what fits in a TPU core's vector memory."""

from dataclasses import dataclass

import jax
from jax.experimental.pallas import tpu as pltpu

from trainer.attention.flash.lanes import LANES, Lanes
from trainer.attention.pattern import Pattern

MIB = 1 << 20
VECTOR_MEMORY = {"v4": 16 * MIB, "v5e": 128 * MIB, "v5p": 64 * MIB, "v6e": 128 * MIB, "tpu7x": 64 * MIB}
"""Bytes of a core's vector memory (jax.experimental.pallas.tpu.TpuInfo.vmem_capacity_bytes)."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries and keys to a tile of scores, and the width of the strips that the diagonal's square is cut into."""

    queries: int
    keys: int
    diagonal: int

    def within(self, seq: int) -> "Tile":
        """The tile for a sequence of a multiple of 128: sides no longer than these, the longer one dividing it, each the next."""

        def largest(size: int, whole: int) -> int:
            return next(s for s in range(min(size, whole) // LANES * LANES, 0, -LANES) if whole % s == 0)

        long = largest(max(self.queries, self.keys), seq)
        short = largest(min(self.queries, self.keys), long)
        diagonal = largest(self.diagonal, long)
        return Tile(long, short, diagonal) if self.queries >= self.keys else Tile(short, long, diagonal)


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of the forward and of the backward kernel."""

    forward: Tile
    backward: Tile

def tuned(pattern: Pattern, generation: str) -> Tiles:
    import os
    f=[int(x) for x in os.environ.get("FT","512,256,256,512,512,256").split(",")]
    return Tiles(Tile(*f[:3]), Tile(*f[3:]))

def this_generation() -> str:
    """The TPU generation that is traced for, "v5e" where it is none."""
    try:
        name = str(pltpu.get_tpu_info().chip_version)
    except ValueError:
        return "v5e"
    return "tpu7x" if name == "7x" else name

def vector_memory(generation: str) -> int:
    return VECTOR_MEMORY[generation] * 15 // 16
