"""One peer in a process of its own, so that its memory is its own: `python -m bench.worker PEER SHAPE`.

Prints a JSON line when it is ready, then, for each number of steps it reads, one with the seconds of each step. Ends
with its standard input.
"""

import importlib
import json
import resource
import sys
import time

from bench.shapes import SHAPES


def main(peer: str, shape_name: str) -> None:
    """Compiles, then runs what it is told to."""
    shape = SHAPES[shape_name]
    began = time.perf_counter()
    state, run, compiled = importlib.import_module(f"bench.peers.{peer}").make(shape)
    seconds = time.perf_counter() - began
    _say(ready=True, compile_seconds=seconds, temporary_mib=_temporaries(compiled))
    for line in sys.stdin:
        times, value = [], float("nan")
        for _ in range(int(line)):
            began = time.perf_counter()
            state, loss = run(state)
            value = float(loss)
            times.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _say(seconds=times, loss=value, peak_mib=peak)


def _temporaries(compiled: object) -> float | None:
    """MiB that the program needs beside its arguments and results; None where nobody counts them."""
    analysis = getattr(compiled, "memory_analysis", lambda: None)()
    return None if analysis is None else analysis.temp_size_in_bytes / 2**20


def _say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
