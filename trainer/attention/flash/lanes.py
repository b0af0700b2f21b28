"""How heads lie in the 128 lanes of a TPU register, and what is done to them there.

The kernels read q [B, T, N*D] and k, v [B, T, K*D] as the projections leave them, in blocks of W lanes: W = 128 holds
P = 128 / D heads when D < 128, and W = D holds one otherwise. Inside, tiles are turned on their side, x^T [W, rows]:
there a head is a range of D rows, half a head one of D/2, and what would be shuffles of lanes only renames registers.

With groups of G query heads to a key/value head, key block c (heads cP .. cP+P-1) serves the G query blocks from cG on,
and place h of the g-th of them holds a head that uses place (gP + h) // G of the key block. `arrange` moves keys to
where their queries are; `gather_back`, its transpose, adds up gradients where the keys were.

Rotary embedding (Su et al. 2021, half-split form) turns features i and i + D/2 of a head by an angle of the position:
[x1, x2] -> [x1 cos - x2 sin, x2 cos + x1 sin]. The table is [D, T]: D/2 cosines, then D/2 sines.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from trainer.attention.pattern import Pattern

LANES = 128
Index = int | jax.Array


@dataclass(frozen=True, slots=True)
class Lanes:
    """The blocks of lanes that one pattern's heads are cut into."""

    heads: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, pattern: Pattern) -> "Lanes":
        """The blocks of a pattern whose head_dim is a divisor of 128 or a multiple of it."""
        return cls(pattern.heads, pattern.kv_heads, pattern.head_dim)

    @property
    def group(self) -> int:
        """G: query heads (and query blocks) to one key/value head (block)."""
        return self.heads // self.kv_heads

    @property
    def width(self) -> int:
        """W: lanes of a block."""
        return max(LANES, self.head_dim)

    @property
    def per(self) -> int:
        """P: heads in a block."""
        return self.width // self.head_dim

    @property
    def blocks(self) -> int:
        """Blocks of query heads; the last may be partly empty."""
        return -(-self.heads // self.per)

    @property
    def kv_blocks(self) -> int:
        """Blocks of key/value heads; the last may be partly empty."""
        return -(-self.kv_heads // self.per)

    @property
    def steps(self) -> int:
        """Query blocks that share a key block, at most."""
        return min(self.group, self.blocks)

    @property
    def ragged(self) -> bool:
        """Has the last block of queries or keys lanes that hold no head?"""
        return self.heads % self.per != 0 or self.kv_heads % self.per != 0

    @property
    def moves(self) -> bool:
        """Must keys move to the lanes of their queries?"""
        return self.per > 1 and self.group > 1

    def place(self, h: int) -> slice:
        """The rows of the block's h-th head in x^T, and its lanes in x."""
        return slice(h * self.head_dim, (h + 1) * self.head_dim)


def keep_head(x: jax.Array, h: int, lanes: Lanes) -> jax.Array:
    """x^T [W, rows] with zeros but in the rows of one head."""
    if lanes.per == 1:
        return x
    zeros = jnp.zeros((lanes.head_dim, x.shape[1]), x.dtype)
    return jnp.concatenate([x[lanes.place(h)] if other == h else zeros for other in range(lanes.per)])


def keep_valid(x: jax.Array, block: Index, heads: int, lanes: Lanes) -> jax.Array:
    """x^T [W, rows] with zeros where the block reaches beyond the last head: what is read there is undefined."""
    held = (heads - block * lanes.per) * lanes.head_dim
    return jnp.where(lax.broadcasted_iota(jnp.int32, x.shape, 0) < held, x, jnp.zeros_like(x))


def arrange(x: jax.Array, step: Index, lanes: Lanes) -> jax.Array:
    """Keys or values x^T [W, rows]: place h gets the head that place h of the step-th query block uses."""
    heads = [x[lanes.place(h)] for h in range(lanes.per)]
    moved = []
    for h in range(lanes.per):
        source = lax.div(step * lanes.per + h, lanes.group)
        chosen = heads[0]
        for other in range(1, lanes.per):
            chosen = jnp.where(source == other, heads[other], chosen)
        moved.append(chosen)
    return jnp.concatenate(moved)


def gather_back(x: jax.Array, step: Index, lanes: Lanes) -> jax.Array:
    """The transpose of `arrange`: gradients x^T [W, rows], added where their key heads are."""
    totals = [jnp.zeros((lanes.head_dim, x.shape[1]), x.dtype)] * lanes.per
    for h in range(lanes.per):
        source = lax.div(step * lanes.per + h, lanes.group)
        for other in range(lanes.per):
            totals[other] += jnp.where(source == other, x[lanes.place(h)], 0)
    return jnp.concatenate(totals)


def turn(x: jax.Array, table: jax.Array, lanes: Lanes, *, back: bool = False) -> jax.Array:
    """Rotary embedding of float32 x^T [W, rows] by table [D, rows], or its transpose."""
    half = lanes.head_dim // 2
    cos, sin = table[:half], -table[half:] if back else table[half:]
    turned = []
    for h in range(lanes.per):
        x1, x2 = x[h * 2 * half : (h * 2 + 1) * half], x[(h * 2 + 1) * half : (h + 1) * 2 * half]
        turned += [x1 * cos - x2 * sin, x2 * cos + x1 * sin]
    return jnp.concatenate(turned)


def rotary_table(tables: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The cosines and sines [T, D/2] as the kernels read them: float32 [D, T]."""
    return jnp.concatenate(tables, axis=1).astype(jnp.float32).T
