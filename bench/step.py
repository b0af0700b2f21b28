"""The whole training step against the textbook's, and against transformers on torch where that is installed."""

import importlib.util
import sys

from bench.interleave import Reading, interleave
from bench.shapes import SHAPES

ONEDNN = "--xla_cpu_use_onednn=true --xla_cpu_experimental_onednn_fusion_type=dot"
ROUNDS, STEPS = 3, 2


def run(names: list[str]) -> None:
    """Prints a table for each shape, and for L a second one under XLA's oneDNN flags."""
    peers = ["textbook", "ours"] + (["transformers"] if importlib.util.find_spec("torch") else [])
    for name in names:
        _table(name, "plain flags", interleave(peers, name, rounds=ROUNDS, steps=STEPS))
        _table(name, ONEDNN, interleave(peers[:2], name, rounds=ROUNDS, steps=STEPS, xla_flags=ONEDNN))


def _table(name: str, flags: str, readings: list[Reading]) -> None:
    shape = SHAPES[name]
    print(f"\n{name}: {shape}\n{flags}; {ROUNDS} rounds of {STEPS} steps, interleaved")
    print(f"{'peer':14}{'tokens/s':>10}{'step s':>9}{'[min':>8}{'max]':>8}{'speed x':>9}"
          f"{'peak MiB':>10}{'x':>6}{'temp MiB':>10}{'x':>6}{'compile s':>11}{'loss':>9}")  # fmt: skip
    base = readings[0]
    for one in readings:
        temporary = one.temporary_mib or float("nan")
        print(f"{one.peer:14}{shape.tokens / one.median:10.1f}{one.median:9.3f}{min(one.seconds):8.3f}"
              f"{max(one.seconds):8.3f}{base.median / one.median:9.2f}{one.peak_mib:10.0f}"
              f"{one.peak_mib / base.peak_mib:6.2f}{temporary:10.0f}{temporary / (base.temporary_mib or 1):6.2f}"
              f"{one.compile_seconds:11.1f}{one.loss:9.4f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    run(sys.argv[1:] or list(SHAPES))
