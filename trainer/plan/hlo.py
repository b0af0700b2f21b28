"""Reads the text of an optimized HLO module: computations, their operations, and the Python lines they came from.

    ENTRY %main (a: f32[8]) -> f32[8] {
      ROOT %name = shape opcode(operands), attributes, metadata={op_name="..." stack_frame_id=7}, backend_config={...}
    }

Only what costing needs is taken apart; attributes stay text and are searched by name.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

_ITEM_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "s2", "u2", "f4e2m1fn"), 1),
    **dict.fromkeys(("f8e4m3fn", "f8e5m2", "f8e4m3", "f8e3m4", "f8e4m3b11fnuz", "f8e8m0fnu"), 1),
    **dict.fromkeys(("s16", "u16", "bf16", "f16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
}
_NAME = re.compile(r"^\s+(ROOT )?%([\w.\-]+) = ")
_HEADER = re.compile(r"^(ENTRY )?%([\w.\-]+) \(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_REFERENCE = re.compile(r"%([\w.\-]+)")
_TABLE_LINE = re.compile(r'^(\d+) (?:"(.*)"|\{(.*)\})$')


@dataclass(frozen=True, slots=True)
class Operation:
    """One instruction of a computation."""

    name: str
    opcode: str
    shape: str
    operands: str
    attributes: str
    is_root: bool

    @property
    def cycles(self) -> int | None:
        """The compiler's own estimate for one execution; None where it gives none."""
        found = re.search(r'"estimated_cycles":"?(\d+)', self.attributes)
        return int(found[1]) if found else None

    @property
    def op_name(self) -> str:
        """The path of JAX transformations and primitives it came from."""
        return self.attribute(r'op_name="([^"]*)"') or ""

    @property
    def frame(self) -> int | None:
        """Key of the Python call that made it, see `Module.calls_of`."""
        found = self.attribute(r"stack_frame_id=(\d+)")
        return int(found) if found else None

    @property
    def operand_names(self) -> list[str]:
        """Operations it reads, in order."""
        return _REFERENCE.findall(self.operands)

    @property
    def kind(self) -> str:
        """The opcode without -start, -done or -update."""
        return re.sub(r"-(start|done|update)$", "", self.opcode)

    @property
    def written_bytes(self) -> int:
        """Bytes of its result; of all parts when the result is a tuple."""
        return shape_bytes(self.shape)

    def attribute(self, pattern: str) -> str | None:
        """The first group of a pattern in its attributes."""
        found = re.search(pattern, self.attributes)
        return found[1] if found else None

    def called(self, attribute: str) -> list[str]:
        """Computations that an attribute (or an alternation of attributes) names, alone or in braces."""
        lists = re.findall(rf"\b(?:{attribute})=(?:\{{([^}}]*)\}}|(%[\w.\-]+))", self.attributes)
        return [name for braces, single in lists for name in _REFERENCE.findall(braces or single)]


Computation = Mapping[str, Operation]


@dataclass(frozen=True, slots=True)
class Call:
    """One frame of the Python stack."""

    file: str
    function: str
    line: int


@dataclass(frozen=True)
class Module:
    """A parsed program."""

    computations: Mapping[str, Computation]
    entry: str
    tables: Mapping[str, Mapping[int, str]] = field(repr=False)
    """FileNames, FunctionNames, FileLocations and StackFrames, as written."""

    def root(self, computation: str) -> Operation | None:
        """The operation whose result the computation returns."""
        return next((op for op in self.computations[computation].values() if op.is_root), None)

    def calls_of(self, operation: Operation) -> list[Call]:
        """The Python calls that made an operation, the innermost first; [] when the compiler made it."""
        found = []
        frame = operation.frame
        while frame and (entry := self._frames.get(frame)):
            location, parent = entry
            found.append(location)
            frame = parent if parent < frame else None
        return found

    @cached_property
    def _frames(self) -> dict[int, tuple[Call, int]]:
        """Each frame's own call and the frame that called it; 0 is nobody."""
        frames = {}
        for key, text in self.tables.get("StackFrames", {}).items():
            fields = _fields(text)
            location = _fields(self.tables["FileLocations"].get(fields["file_location_id"], ""))
            if location:
                call = Call(
                    file=self.tables["FileNames"].get(location["file_name_id"], ""),
                    function=self.tables["FunctionNames"].get(location["function_name_id"], ""),
                    line=location["line"],
                )
                frames[key] = (call, fields["parent_frame_id"] - 1)  # written from 1, with 1 for nobody
        return frames


def parse_hlo(text: str) -> Module:
    """The module that an HLO text describes. Raises ValueError when there is no entry computation in it."""
    computations: dict[str, dict[str, Operation]] = {}
    entry = ""
    for header, lines in _blocks(text):
        name = header[2]
        computations[name] = {op.name: op for op in map(_operation, _statements(lines))}
        entry = name if header[1] else entry
    if not entry:
        raise ValueError("no ENTRY computation: this is not the text of an HLO module")
    return Module(computations, entry, _tables(text))


def shape_bytes(shape: str) -> int:
    """Bytes of an array shape such as bf16[8,128]{1,0}, or of all arrays in a tuple shape; layouts are not padded."""
    return sum(array_bytes(shape))


def array_bytes(shape: str) -> list[int]:
    """Bytes of each array in a shape."""
    return [
        _ITEM_BYTES.get(item, 0) * math.prod(int(size) for size in sizes.split(",") if size)
        for item, sizes in _ARRAY.findall(shape)
    ]


def _blocks(text: str) -> Iterator[tuple[re.Match[str], list[str]]]:
    """Each computation's header and the lines of its body."""
    header: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.splitlines():
        if header is None:
            header = _HEADER.match(line) if line.rstrip().endswith("{") else None
        elif re.match(r"\}($|[ ,])", line):
            yield header, lines
            header, lines = None, []
        else:
            lines.append(line)


def _statements(lines: list[str]) -> Iterator[str]:
    """Operations that go over several lines, each on one."""
    statement: list[str] = []
    for line in lines:
        if _NAME.match(line):
            if statement:
                yield " ".join(statement)
            statement = [line]
        elif statement:
            statement.append(line)
    if statement:
        yield " ".join(statement)


def _operation(statement: str) -> Operation:
    head = _NAME.match(statement)
    assert head is not None
    rest = statement[head.end() :]
    end = _closing(rest, 0) + 1 if rest[0] == "(" else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    opened = rest.index("(")
    closed = _closing(rest, opened)
    return Operation(
        name=head[2],
        opcode=rest[:opened],
        shape=shape,
        operands=rest[opened + 1 : closed],
        attributes=rest[closed + 1 :],
        is_root=bool(head[1]),
    )


def _closing(text: str, opened: int) -> int:
    """Where the parenthesis at `opened` closes."""
    depth = 0
    for place in range(opened, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    return len(text) - 1


def _tables(text: str) -> dict[str, dict[int, str]]:
    """The numbered tables between the module's first line and its first computation."""
    tables: dict[str, dict[int, str]] = {}
    rows: dict[int, str] | None = None
    for line in text.splitlines():
        if _HEADER.match(line) and line.rstrip().endswith("{"):
            break
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            rows = tables.setdefault(line, {})
        elif rows is not None and (found := _TABLE_LINE.match(line)):
            rows[int(found[1])] = found[2] if found[3] is None else found[3]
    return tables


def _fields(text: str) -> dict[str, int]:
    """{'line': 7, ...} of 'line=7 ...'."""
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}
