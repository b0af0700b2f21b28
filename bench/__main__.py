"""Runs the benchmarks named, or all of them, each in a process of its own: `make bench ARGS="step S"`."""

import os
import subprocess
import sys

from bench.shapes import SHAPES

PROGRAMS = (
    "step",
    "attention",
    "loss",
    "context",
    "compile",
    "host",
    "loader",
    "generate",
    "distillation",
    "cross_tokenizer",
    "precision",
    "twins",
    "checkpoints",
)


def main(arguments: list[str]) -> int:
    """The first exit code that is not 0."""
    wrong = [name for name in arguments if name not in {*PROGRAMS, *SHAPES}]
    if wrong:
        print(f"no benchmark is called {', '.join(wrong)}; there are {', '.join(PROGRAMS)}; shapes {', '.join(SHAPES)}")
        return 2
    shapes = [name for name in arguments if name in SHAPES]
    for program in [name for name in arguments if name in PROGRAMS] or PROGRAMS:
        command = [sys.executable, "-m", f"bench.{program}", *(shapes if program == "step" else [])]
        code = subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
