"""Stored programs for the plan's tests, compiled by libtpu 0.0.52 for v5e:2x4, estimates alone left of their
backend configs.

matmul          4096^3 in bfloat16
nested_loops    3 x 7 products of 1024^3 with tanh, then a conditional whose dearer branch has two products
collectives     over 8 devices: a product whose psum waits for it, and an all-gather that XLA made asynchronous
kernel.bundles  the final schedule of a kernel with a grid of 3 x 8: in it a loop of 4 around a loop up to the grid
                index + 1, and a branch; instructions that say nothing about control flow are written as "work"
"""

from pathlib import Path

from trainer.plan.cost import Costs, cost_of
from trainer.plan.hlo import Module, parse_hlo
from trainer.plan.rates import Rates
from vishwamai.contract.accelerators import slice_for

DATA = Path(__file__).parent / "data"
V5E = Rates.of(slice_for("v5e", "2x4"))


def program(name: str) -> Module:
    return parse_hlo((DATA / f"{name}.hlo.txt").read_text())


def cost(module: Module) -> Costs:
    return cost_of(module, V5E, lambda op: None, lambda op: None)


def module_of(body: str, *, computations: str = "") -> Module:
    """A module whose entry has these lines."""
    return parse_hlo(f"HloModule m\n\n{computations}\nENTRY %main (a: f32[8]) -> f32[8] {{\n{body}\n}}\n")
