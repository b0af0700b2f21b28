"""Reads the scheduled instructions of a Pallas kernel: what runs how often, in bundles.

A TPU core issues one bundle a cycle, and the schedule already holds the waits for VMEM and the matrix units, so cycles
are bundles x how often they run. In libtpu's text of the final schedule

    0x48 LB: >>> { ... %s9 = sphi %s4, %s7 }          LB begins a loop; the marks > count the loops around a bundle
    0x4d   : >>> { %p2 = scmp.ge.s32.totalorder %s7, 26 }                      its exit test, here after 26
    0x43   : >>  { sbr.rel (%p7) target = $region91 }                          jumps over what follows when %p7 holds,
    0x88 PF: >>  { ... } /* Start/End empty region 91 */                       up to here

What is read from it is a tree of loops and of branches that may be jumped over. Waits for HBM are not in it: these are
the cycles of a kernel that computation bounds.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s*([A-Z]{2,3})?\s*:\s?([> ]*)\{(\})?", re.MULTILINE)
_COMPARED = r"scmp\.ge\.s32\.totalorder (?:\(\S+\), )?"
_DELAY = 4
"""Bundles behind a jump that run before it takes effect."""


@dataclass(slots=True)
class Region:
    """A run of bundles: the whole kernel, a loop, or a branch that may be jumped over."""

    kind: Literal["kernel", "loop", "branch"]
    first: int
    after: int
    """First and one past the last bundle."""
    trips: int | None = 1
    """Of a loop; None when its end depends on values."""
    pipelined: bool = False
    """Whether it is a grid whose copies run beside its steps."""
    inner: list["Region"] = field(default_factory=list)

    @property
    def bundles(self) -> int:
        """All of its bundles, once each."""
        return self.after - self.first

    @property
    def own(self) -> int:
        """Bundles outside the regions in it."""
        return self.bundles - sum(region.bundles for region in self.inner)

    def cycles(self, weight: Callable[["Region"], float]) -> float:
        """Bundles x how often they run, given how often each region runs per run of the region around it."""
        return weight(self) * (self.own + sum(region.cycles(weight) for region in self.inner))

    def regions(self) -> Iterator["Region"]:
        """It and all regions in it."""
        yield self
        for region in self.inner:
            yield from region.regions()


@dataclass(frozen=True, slots=True)
class _Bundle:
    begins_loop: bool
    depth: int
    text: str


def read_bundles(text: str) -> Region:
    """The tree of a kernel's regions. Raises ValueError when the text holds no bundles."""
    bundles = _bundles(text)
    if not bundles:
        raise ValueError("no bundles: this is not the text of a final schedule")
    kernel = Region("kernel", 0, len(bundles))
    found = [*_loops(bundles), *_branches(bundles)]
    around = [kernel]
    # Outer regions stand before inner ones that begin at the same bundle; a branch may hold nothing but a loop.
    for region in sorted(found, key=lambda each: (each.first, -each.after, each.kind)):
        while region.first >= around[-1].after:
            around.pop()
        region.after = min(region.after, around[-1].after)
        around[-1].inner.append(region)
        around.append(region)
    return kernel


def _bundles(text: str) -> list[_Bundle]:
    heads = list(_BUNDLE.finditer(text))
    found: list[_Bundle] = []
    for place, head in enumerate(heads):
        end = heads[place + 1].start() if place + 1 < len(heads) else len(text)
        # Empty bundles carry no marks: they belong where the one before them does.
        depth = found[-1].depth if head[3] and found else head[2].count(">")
        found.append(_Bundle(head[1] == "LB", depth, text[head.start() : end]))
    return found


def _loops(bundles: list[_Bundle]) -> Iterator[Region]:
    for first, bundle in enumerate(bundles):
        if not bundle.begins_loop:
            continue
        after = first + 1
        while after < len(bundles) and not _left(bundles[after], bundle.depth):
            after += 1
        inside = "".join(each.text for each in bundles[first:after])
        pipelined = bundle.depth == 1 and "iteration index, stage = 1" in inside
        yield Region("loop", first, after, _trips(bundles, first, after, pipelined), pipelined)


def _left(bundle: _Bundle, depth: int) -> bool:
    """Whether a bundle is past the loop of that depth."""
    return bundle.depth < depth or (bundle.begins_loop and bundle.depth == depth)


def _trips(bundles: list[_Bundle], first: int, after: int, pipelined: bool) -> int | None:
    """Iterations of a loop that counts to a constant; None when its end depends on values."""
    before, inside = ("".join(each.text for each in bundles[a:b]) for a, b in ((0, first), (first, after)))
    trips = None
    for start, following in re.findall(r"= sphi %(\w+), %(\w+)", bundles[first].text):
        end = re.search(rf"{_COMPARED}%{following}, (\d+)", inside)
        begin = re.search(rf"%{start} = smov\.u32 (?:\(\S+\), )?(\d+)", before)
        step = re.search(rf"%{following} = sadd\.s32 (?:\(\S+\), )?(\d+),", inside)
        if end and begin and step:
            trips = -(-(int(end[1]) - int(begin[1])) // int(step[1]))
    if trips is None:
        # The counter may have been spilled; Mosaic's own loops count from 0 by 1.
        own = "".join(each.text for each in bundles[first:after] if each.depth == bundles[first].depth)
        end = re.search(rf"{_COMPARED}%\w+, (\d+) /\* loop exit test", own)
        trips = int(end[1]) if end else None
    # A pipelined grid takes a step more at either end, for the first copy in and the last copy out.
    return max(trips - 2, 1) if pipelined and trips is not None else trips


def _branches(bundles: list[_Bundle]) -> Iterator[Region]:
    ends = {
        number: place
        for place, bundle in enumerate(bundles)
        for number in re.findall(r"Start/End empty region (\d+)", bundle.text)
    }
    for place, bundle in enumerate(bundles):
        for number in re.findall(r"sbr\.rel \([^)]*\) target = \$region(\d+)", bundle.text):
            first, after = place + 1 + _DELAY, ends.get(number, 0)
            if after > first:
                yield Region("branch", first, after)
