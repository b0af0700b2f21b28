"""Sizes of the kernels' tiles, chosen by what the compiler schedules for them, and what fits in vector memory.

The whole sequence of a 128-lane block lies in the vector memory of a core: in the backward kernel q, k, v, o, do and
their three gradients, as they come from and go to HBM, five of them once more as the products read them, float32 sums
of dq and (over a group's query blocks) of dk and dv, and the tiles being worked on. Blocks are doubled, so that a grid
step's copies run beside the work on the one before, unless only single ones fit: with sequences so long, copies are a
few hundredths of the work.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

from trainer.attention.flash.lanes import LANES, Lanes
from trainer.attention.pattern import Pattern

MIB = 1 << 20
VECTOR_MEMORY = {"v4": 16 * MIB, "v5e": 128 * MIB, "v5p": 64 * MIB, "v6e": 128 * MIB, "tpu7x": 64 * MIB}
"""Bytes of a core's vector memory (jax.experimental.pallas.tpu.TpuInfo.vmem_capacity_bytes)."""
HEAD_DIMS = (16, 32, 64, 128, 256)
SCORES_KEPT = 4
"""Tiles of float32 scores that the compiler keeps in vector memory at a time."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Queries and keys to a tile of scores, and the width of the strips that the diagonal's square is cut into."""

    queries: int
    keys: int
    diagonal: int

    def within(self, seq: int) -> "Tile":
        """The largest no larger than this for a multiple of 128: the longer side divides it, the shorter the longer."""

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
    """Keys divide queries."""
    backward: Tile
    """Queries divide keys."""

    def within(self, seq: int) -> "Tiles":
        """Both for a sequence of a multiple of 128."""
        return Tiles(self.forward.within(seq), self.backward.within(seq))


TUNED = {
    "v4": Tiles(Tile(512, 256, 128), Tile(256, 512, 256)),
    "v5e": Tiles(Tile(1024, 256, 256), Tile(512, 1024, 256)),
    "v5p": Tiles(Tile(1024, 256, 256), Tile(512, 1024, 256)),
    "v6e": Tiles(Tile(1024, 512, 256), Tile(512, 1024, 256)),
    "tpu7x": Tiles(Tile(1024, 512, 256), Tile(512, 1024, 256)),
}
"""The cheapest tiles found, by generation, for 2048 tokens in one document and sides up to 1024.

Longer sides run a few per cent fewer bundles, but the square on the diagonal is always computed, and with it what
separates the short documents there, which smaller tiles skip.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the kernels run for a pattern and a sequence on a TPU generation."""

    tiles: Tiles
    buffers: int
    """Copies of each block of memory: 2 let copies run beside the work."""
    vector_memory: int
    """Bytes that a kernel may use."""


def plan(pattern: Pattern, seq: int, itemsize: int, generation: str) -> Plan | None:
    """The tiles that the compiler's schedules make cheapest; None where the sequence does not fit."""
    tiles = TUNED[generation].within(seq)
    room = VECTOR_MEMORY[generation] * 15 // 16  # the compiler keeps some for itself
    for buffers in (2, 1):
        if vector_memory_needed(pattern, seq, itemsize, tiles, buffers) <= room:
            return Plan(tiles, buffers, room)
    return None


def vector_memory_needed(pattern: Pattern, seq: int, itemsize: int, tiles: Tiles, buffers: int) -> int:
    """Bytes of vector memory that the backward kernel, the larger of the two, needs; itemsize is q's."""
    lanes, tile = Lanes.of(pattern), tiles.backward
    block = seq * lanes.width
    rows = 8 * seq * 4  # statistics and first keys: a few rows, in registers of eight
    in_and_out = buffers * (8 * block * itemsize + 2 * rows) + lanes.head_dim * seq * 4
    made = 5 * block * itemsize + rows + block * 4 * (3 if lanes.steps > 1 else 1)
    scores = max(tile.queries * tile.keys, tiles.forward.queries * tiles.forward.keys)
    return in_and_out + made + 2 * tile.keys * lanes.width * 4 + SCORES_KEPT * scores * 4


def supports(pattern: Pattern, seq: int, dtype: DTypeLike, generation: str) -> str | None:
    """Why the kernels cannot run; None when they can.

    Args:
        pattern: the heads of one device.
        seq: tokens of the window.
        dtype: of q, k and v.
        generation: "v3", "v4", "v5e", "v5p", "v6e" or "tpu7x".
    """
    if generation not in VECTOR_MEMORY:
        return f"Pallas TPU kernels do not compile for {generation}; they do for {', '.join(VECTOR_MEMORY)}"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float32):
        return f"q, k and v are {jnp.dtype(dtype).name}; the kernel takes bfloat16 and float32"
    if pattern.head_dim not in HEAD_DIMS:
        return f"head_dim is {pattern.head_dim}; the kernel takes {', '.join(map(str, HEAD_DIMS))}"
    if pattern.dropout_rate > 0:
        return "the kernel does not drop attention weights"
    if seq % LANES:
        return f"a sequence of {seq} tokens is not a multiple of {LANES}"
    if plan(pattern, seq, jnp.dtype(dtype).itemsize, generation) is None:
        return f"a sequence of {seq} tokens does not fit in the vector memory of {generation}"
    return None


def this_generation() -> str:
    """The TPU generation that is traced for; "v5e" where it is none, as in interpret mode."""
    try:
        version = pltpu.get_tpu_info().chip_version
    except ValueError:
        return "v5e"
    return "tpu7x" if version == pltpu.ChipVersion.TPU_7X else str(version)
