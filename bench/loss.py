"""Head and loss alone, value and both gradients, against whole logits: `python -m bench.loss [S] [M]`."""

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bench.shapes import SHAPES
from bench.turns import Function, print_turns
from trainer.losses import cross_entropy

CHUNKS = (256, 512, 1024)
ROUNDS = 3

Loss = Callable[..., jax.Array]


def main(names: list[str]) -> None:
    """Prints a table for each shape, float32."""
    for name in names:
        shape = SHAPES[name]
        keys = jax.random.split(jax.random.key(0), 3)
        hidden = jax.random.normal(keys[0], (shape.batch, shape.seq, shape.hidden))
        table = jax.random.normal(keys[1], (shape.vocab, shape.hidden)) / 4 / shape.hidden**0.5
        targets = jax.random.randint(keys[2], hidden.shape[:2], 0, shape.vocab)
        functions: dict[str, Function] = {"whole logits": _gradients(_whole)}
        functions |= {f"chunks of {chunk}": _gradients(_chunked(chunk, transpose=True)) for chunk in CHUNKS}
        functions["512, not transposed"] = _gradients(_chunked(512, transpose=False))
        print(f"\n{name}: {shape.tokens} tokens x {shape.hidden} x {shape.vocab}, {ROUNDS} rounds, interleaved")
        print_turns(functions, (hidden, table, targets, jnp.ones(targets.shape)), rounds=ROUNDS)


def _whole(hidden: jax.Array, table: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
    logits = hidden @ table.T
    target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jnp.sum(weights * (jax.nn.logsumexp(logits, axis=-1) - target))


def _chunked(chunk: int, *, transpose: bool) -> Loss:
    return lambda *batch: cross_entropy(*batch, chunk_tokens=chunk, transpose_gradients=transpose)[0]


def _gradients(loss: Loss) -> Function:
    return jax.value_and_grad(loss, argnums=(0, 1))


if __name__ == "__main__":
    main(sys.argv[1:] or ["S", "M"])
