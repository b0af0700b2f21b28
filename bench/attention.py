"""Attention alone, forward and backward, against the textbook's: `python -m bench.attention [SEQ ...]`."""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bench.turns import print_turns
from trainer.attention.blockwise import blockwise_attention
from trainer.attention.dense import dense_attention
from trainer.attention.pattern import Pattern

HEADS, HEAD_DIM, WINDOW = 8, 64, 1024
BLOCKS = (128, 256, 512)
ROUNDS = 3

Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def main(lengths: list[int]) -> None:
    """Prints a table for each sequence length: one sequence, 8 heads x 64, float32, causal."""
    pattern = Pattern(HEADS, HEADS, HEAD_DIM, HEAD_DIM**-0.5)
    for T in lengths:
        q, k, v, d_out = jax.random.normal(jax.random.key(0), (4, 1, T, HEADS * HEAD_DIM))
        functions: dict[str, Attend] = {"dense": _dense(pattern)}
        functions |= {f"blockwise {block}": _blockwise(pattern, block) for block in BLOCKS}
        functions[f"window {WINDOW}, 256"] = _blockwise(
            Pattern(HEADS, HEADS, HEAD_DIM, HEAD_DIM**-0.5, window=WINDOW), 256
        )
        print(f"\nseq {T}, forward and backward, {ROUNDS} rounds, interleaved")
        print_turns({name: _gradients(f, d_out) for name, f in functions.items()}, (q, k, v), rounds=ROUNDS)


def _dense(pattern: Pattern) -> Attend:
    return lambda q, k, v: dense_attention(q, k, v, *_whole(q), pattern)


def _blockwise(pattern: Pattern, block: int) -> Attend:
    return lambda q, k, v: blockwise_attention(q, k, v, *_whole(q), pattern, block)


def _whole(q: jax.Array) -> tuple[jax.Array, jax.Array, int, jax.Array, None]:
    """One document, from the window's start, no dropout."""
    segments = jnp.ones(q.shape[:2], jnp.int32)
    return segments, segments, 0, jnp.arange(q.shape[0]), None


def _gradients(attend: Attend, d_out: jax.Array) -> Callable[..., tuple[jax.Array, ...]]:
    return jax.grad(lambda *qkv: jnp.sum(attend(*qkv) * d_out), argnums=(0, 1, 2))


if __name__ == "__main__":
    main([int(length) for length in sys.argv[1:]] or [1024, 4096, 8192])
