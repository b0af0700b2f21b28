"""How often a loop runs: the compiler's own count where it wrote one down, else read from the loop's condition.

The condition of a counted loop compares two values, at its root or inside a fusion there. Each is a constant, or an
element of the loop's tuple whose first value the caller made from a constant.
"""

import re

from trainer.plan.hlo import Module, Operation

_PASSED_ON = frozenset({"copy", "bitcast", "convert", "reshape"})


def trip_count(module: Module, computation: str, loop: Operation) -> int | None:
    """Iterations of a while operation that stands in `computation`; None when its text does not tell."""
    known = loop.attribute(r"known_trip_count\W+n\W+(\d+)")
    if known:
        return int(known)
    first_values = _first_values(module, computation, loop)
    (condition,) = loop.called("condition")
    root = module.root(condition)
    if root is None:
        return None
    compare, sides = _compared(module, condition, root, first_values)
    if compare is None or len(sides) != 2 or sides[0] is None or sides[1] is None:
        return None
    inclusive = compare.attribute(r"direction=(\w+)") in ("LE", "GE")
    return abs(sides[1] - sides[0]) + inclusive


def _compared(
    module: Module, condition: str, root: Operation, first_values: list[int | None]
) -> tuple[Operation | None, list[int | None]]:
    """The comparison at a condition's root and the first values of its two sides."""

    def value(name: str) -> int | None:
        operation = module.computations[condition].get(name)
        if operation is not None and operation.opcode == "get-tuple-element":
            index = int(operation.attribute(r"index=(\d+)") or 0)
            return first_values[index] if index < len(first_values) else None
        return _constant(module, condition, name)

    if root.opcode == "compare":
        return root, [value(name) for name in root.operand_names]
    if root.opcode != "fusion":
        return None, []
    (fused,) = root.called("calls")
    compare = module.root(fused)
    if compare is None or compare.opcode != "compare":
        return None, []
    parameters = {op.name: int(op.operands) for op in module.computations[fused].values() if op.opcode == "parameter"}
    return compare, [
        value(root.operand_names[parameters[name]]) if name in parameters else _constant(module, fused, name)
        for name in compare.operand_names
    ]


def _first_values(module: Module, computation: str, loop: Operation) -> list[int | None]:
    """What the elements of the loop's tuple begin with, where they begin with constants."""
    start = module.computations[computation].get(loop.operand_names[0]) if loop.operand_names else None
    if start is None or start.opcode != "tuple":
        return []
    return [_constant(module, computation, name) for name in start.operand_names]


def _constant(module: Module, computation: str, name: str) -> int | None:
    operation = module.computations[computation].get(name)
    while operation is not None and operation.opcode in _PASSED_ON:
        operation = module.computations[computation].get(operation.operand_names[0])
    if operation is None or operation.opcode != "constant" or not re.fullmatch(r"-?\d+", operation.operands):
        return None
    return int(operation.operands)
