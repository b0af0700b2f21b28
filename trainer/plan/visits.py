"""How often the loops of our own plain-XLA attention run, whose ends depend on the documents of a batch.

Blockwise attention visits for each block of queries the blocks of keys that some query of it may see. The plan takes
the dearest batch, in which every window is one document: then only distance (causality, sliding windows) leaves blocks
out. Where devices split the sequence, the one with the last queries has most to do, and the others wait for it.
"""

import re

from trainer.plan.cost import Trips
from trainer.plan.hlo import Module, Operation
from vishwamai.contract.resolved import ResolvedJob

_ATTENTION = re.compile(r"(?:^|/)trainer/attention/(?:blockwise|attend)\.py$")
"""JAX gives what a custom gradient traces the place where it was called."""


def attention_trips(job: ResolvedJob, module: Module) -> Trips:
    """The trips of a loop that come from blockwise attention; None for another loop."""
    visited = key_blocks_visited(job)

    def trips(loop: Operation) -> float | None:
        ours = any(_ATTENTION.search(call.file) for call in module.calls_of(loop))
        return visited if ours else None

    return trips


def key_blocks_visited(job: ResolvedJob) -> float:
    """Blocks of keys that a block of queries visits, on average over the busiest device's queries and over layers."""
    model = job.effective.model
    seq = model.max_seq_len
    queries = seq // job.mesh.sequence
    block = min(job.execution.attention_block, queries)
    keys = min(job.execution.attention_block, seq)
    starts = range(seq - queries, seq, block)
    windows = [model.sliding_window or seq if kind == "sliding" else seq for kind in model.layer_kinds]
    visits = [
        (start + block - 1) // keys - max(start - window + 1, 0) // keys + 1 for window in windows for start in starts
    ]
    return sum(visits) / len(visits)
