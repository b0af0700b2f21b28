"""How often the loops of the kernels run.

Two loops of each kernel end where the mask says (`bounds`): the tiles seen whole, and those at the edge of a window or
a document. All other trip counts stand in the compiled schedule. In the order of the program, a grid step of

    flash_forward    makes the keys ready; for each query tile: edge tiles, whole tiles, the diagonal's strips, unrolled
    flash_backward   makes the keys ready, then the queries; for each key tile: the diagonal's strips, unrolled, whole
                     tiles, edge tiles; and writes dq

With several query blocks to a key block and a head as wide as the lanes, the keys are made ready in the first of them
only: that loop stands in a branch. The counts are for rows of one document, the dearest case.
"""

from dataclasses import dataclass
from typing import Literal

from trainer.attention.flash.lanes import Lanes
from trainer.attention.flash.tiles import Tile
from trainer.attention.pattern import Pattern

Kernel = Literal["flash_forward", "flash_backward"]


@dataclass(frozen=True, slots=True)
class Work:
    """How often the parts of a kernel run."""

    grid: int
    """Grid steps of all cores: batch rows x key blocks x query blocks to a key block."""
    steps: int
    """Grid steps in which the keys are made ready once."""
    rows: int
    """Query tiles (forward) or key tiles (backward) of a grid step; each does one square on the diagonal."""
    whole: int
    """Tiles that a grid step computes without a mask."""
    edge: int
    """Masked tiles of a grid step that are not on the diagonal."""
    trips: tuple[float, float]
    """Mean trips of the two loops of unknown length, in the order of the program."""


def tile_work(pattern: Pattern, batch: int, seq: int, tile: Tile, kernel: Kernel) -> Work:
    """Counts for rows of one document.

    Args:
        pattern: the heads of one device.
        batch: rows of one device.
        seq: tokens of a row; a multiple of the tile's sides.
        tile: the kernel's.
        kernel: which.
    """
    lanes = Lanes.of(pattern)
    count = _forward_tiles if kernel == "flash_forward" else _backward_tiles
    side = tile.queries if kernel == "flash_forward" else tile.keys
    whole, edge = count(seq, tile, seq if pattern.window is None else pattern.window)
    keys_once = 1 if lanes.moves else lanes.steps
    rows = seq // side
    loops = (edge / rows, whole / rows) if kernel == "flash_forward" else (whole / rows, edge / rows)
    return Work(batch * lanes.kv_blocks * lanes.steps, keys_once, rows, whole, edge, loops)


def _forward_tiles(seq: int, tile: Tile, window: int) -> tuple[int, int]:
    whole = edge = 0
    for query in range(0, seq, tile.queries):
        lowest, highest = (max(0, i - window + 1) for i in (query, query + tile.queries - 1))
        diagonal = query // tile.keys
        first = min(lowest // tile.keys, diagonal)
        full = min(max(-(-highest // tile.keys), first), diagonal)
        whole, edge = whole + diagonal - full, edge + full - first
    return whole, edge


def _backward_tiles(seq: int, tile: Tile, window: int) -> tuple[int, int]:
    whole = edge = 0
    for key in range(0, seq, tile.keys):
        for query in range(key + tile.keys, seq, tile.queries):
            if query + tile.queries - 1 - window < key:
                whole += 1
            elif query - window < key + tile.keys - 1:
                edge += 1
    return whole, edge
