"""Compiled functions timed turn by turn in one process, A B A B, and what memory XLA plans for them."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

Function = Callable[..., Any]


def print_turns(functions: Mapping[str, Function], inputs: tuple[jax.Array, ...], *, rounds: int) -> None:
    """Prints a row for each function: seconds and temporary memory, as they are and as a share of the first one's.

    Args:
        functions: by name; the first is what the others are compared with.
        inputs: the arguments of all of them.
        rounds: timed calls of each, after one to warm up.
    """
    programs = {name: jax.jit(function).lower(*inputs).compile() for name, function in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program(*inputs))
            if turn:
                seconds[name].append(time.perf_counter() - began)
    base = next(iter(programs))
    print(f"{'':24}{'median s':>10}{'[min':>9}{'max]':>9}{'x':>8}{'temp MiB':>11}{'x':>9}")
    for name, program in programs.items():
        times, memory = seconds[name], _mib(program)
        share = statistics.median(times) / statistics.median(seconds[base])
        print(f"{name:24}{statistics.median(times):10.3f}{min(times):9.3f}{max(times):9.3f}{share:8.3f}"
              f"{memory:11.1f}{memory / _mib(programs[base]):9.4f}", flush=True)  # fmt: skip


def _mib(program: jax.stages.Compiled) -> float:
    analysis = program.memory_analysis()
    assert analysis is not None
    return float(analysis.temp_size_in_bytes / 2**20)
