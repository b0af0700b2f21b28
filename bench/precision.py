"""What an MLP block costs in FP8 and int8, as multiples of bfloat16, by the TPU compiler's estimate.

    y = x + gelu(x W_up) W_down      of 8192 tokens and width 8192 (of MLP and stream), and its gradients

One device of each generation; nothing runs. `python -m bench.precision [GENERATION ...] [--tokens N] [--width N]
[--kinds fp8 int8]` prints the table, then the JSON for vishwamai/contract/low_precision.json.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.plan.topology import prepare_compiler, slice_devices
from vishwamai.contract.accelerators import Slice, generations, slices
from vishwamai.contract.plan import BESIDE

if TYPE_CHECKING:
    from vishwamai.contract.resolved import Products

KINDS: tuple["Products", ...] = ("fp8", "int8")


def main() -> None:
    """Measures each generation named, or all of them."""
    parser = argparse.ArgumentParser(prog="bench.precision")
    parser.add_argument("generations", nargs="*")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--width", type=int, default=8192)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vishwamai-bench-") as folder:
        prepare_compiler(os.environ, Path(folder))
        ratios: dict[str, dict[str, float]] = {}
        for name in options.generations or [generation.name for generation in generations()]:
            chosen = next(one for one in slices() if one.generation.name == name)
            cycles = {kind: _cycles(chosen, kind, options) for kind in ("compute", *options.kinds)}
            ratios[name] = {kind: round(cycles[kind] / cycles["compute"], 3) for kind in options.kinds}
        print(json.dumps(ratios))


def _cycles(chosen: Slice, kind: "Products", block: argparse.Namespace) -> int:
    """Of the block's forward and backward pass on one device of the slice."""
    import jax  # after prepare_compiler
    import jax.numpy as jnp

    from trainer.linear import Multiplied, linear
    from trainer.plan.cost import cost_of
    from trainer.plan.hlo import parse_hlo
    from trainer.plan.rates import Rates

    how = Multiplied(kind)

    def mlp(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        return x + linear(jax.nn.gelu(linear(x, up, how)), down, how)

    def both(x: jax.Array, up: jax.Array, down: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(mlp, x, up, down)
        return (y, *pull(dy))

    place = jax.sharding.SingleDeviceSharding(slice_devices(chosen, 1)[0])
    stream, weight = (
        jax.ShapeDtypeStruct((rows, block.width), jnp.bfloat16, sharding=place) for rows in (block.tokens, block.width)
    )
    began = time.process_time()
    text = jax.jit(both).lower(stream, weight, weight, stream).compile().as_text()
    assert text is not None, "the TPU compiler always tells"
    found = cost_of(parse_hlo(text), Rates.of(chosen), lambda _: None, lambda _: None)
    cycles = sum(row.cycles for row in found.rows if row.kind not in BESIDE)
    seconds = time.process_time() - began
    print(f"{chosen.generation.name:6} {kind:8} {cycles:12,} cycles  (compiled in {seconds:.0f} CPU s)", flush=True)
    return cycles


if __name__ == "__main__":
    main()
