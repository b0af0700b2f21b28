"""Which part of the program an operation belongs to, from the Python lines that it came from.

A fusion goes where its matrix product came from, when it has one, else where its result did. The part is the innermost
function of ours on the stack, such as "model/layers.py Mlp.__call__"; what only the compiler wanted is "compiler".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.plan.hlo import Call, Module, Operation
from vishwamai.contract.plan import Pass

PRODUCTS = frozenset({"convolution", "dot"})
_OURS = re.compile(r"(?:^|/)trainer/(.+\.py)$")
_OPTIMIZER = re.compile(r"(?:^|/)(?:trainer/optimizer\.py|trainer/optimizer/[^/]+|optax/.+)$")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an operation comes from."""

    part: str
    which: Pass
    op_name: str
    of_optimizer: bool


class Origins:
    """Finds the origin of a module's operations."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._with_product: dict[str, bool] = {}

    def of(self, operation: Operation) -> Origin:
        """Where an operation of any computation comes from."""
        inner = list(self._inside(operation))
        speaker = self._speaker(operation, inner)
        return Origin(
            part=_part(self._module.calls_of(speaker)),
            which=_pass(speaker.op_name),
            op_name=speaker.op_name,
            of_optimizer=any(
                _OPTIMIZER.search(call.file) for op in (operation, *inner) for call in self._module.calls_of(op)
            ),
        )

    def has_product(self, operation: Operation) -> bool:
        """Whether it is a matrix product or a fusion around one."""
        return operation.opcode in PRODUCTS or any(map(self._holds_product, operation.called("calls")))

    def _holds_product(self, computation: str) -> bool:
        if computation not in self._with_product:
            self._with_product[computation] = False
            inside = self._module.computations.get(computation, {}).values()
            self._with_product[computation] = any(map(self.has_product, inside))
        return self._with_product[computation]

    def _inside(self, operation: Operation) -> Iterator[Operation]:
        for name in operation.called("calls"):
            for inner in self._module.computations.get(name, {}).values():
                yield inner
                yield from self._inside(inner)

    def _speaker(self, operation: Operation, inner: list[Operation]) -> Operation:
        """The operation whose origin stands for the whole."""
        products = [op for op in inner if op.opcode in PRODUCTS and op.frame]
        traced = [op for op in inner if op.frame]
        return (products or ([operation] if operation.frame else traced) or [operation])[0]


def _part(calls: list[Call]) -> str:
    for call in calls:
        if found := _OURS.search(call.file):
            function = ".".join(name for name in call.function.split(".") if not name.startswith("<"))
            return f"{found[1]} {function}"
    return "compiler"


def _pass(op_name: str) -> Pass:
    if "rematted_computation" in op_name:
        return "recompute"
    if "transpose(" in op_name:
        return "backward"
    return "forward" if "jvp(" in op_name else "outside"
