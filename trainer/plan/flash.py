"""Cycles of our own attention kernels: their schedules, weighed by how often the job's masks run their loops."""

import re
from typing import get_args

from trainer.attention.flash.cost import kernel_cycles
from trainer.attention.flash.tiles import plan
from trainer.attention.flash.work import Kernel, tile_work
from trainer.attention.pattern import Pattern
from trainer.plan.kernels import Rule
from vishwamai.contract.resolved import ResolvedJob


def flash_rule(job: ResolvedJob) -> Rule:
    """The rule for the kernels of a job's step: cycles by a kernel's name and schedule, None of another's.

    A kernel is compiled for each kind of layer under one name, so each call costs what the layers cost on average.
    """
    kinds = job.effective.model.layer_kinds
    batch = job.batch.sequences_per_micro_batch // (job.mesh.data * job.mesh.fsdp)
    seq = job.effective.model.max_seq_len
    itemsize = 2 if job.precision.compute == "bfloat16" else 4

    def rule(name: str, schedule: str) -> int | None:
        kernel: Kernel | None = next((one for one in get_args(Kernel) if re.match(rf"{one}\b", name)), None)
        if kernel is None:
            return None
        cycles = 0.0
        for kind in set(kinds):
            pattern = Pattern.of(job.effective.model, kind, job.mesh.model)
            how = plan(pattern, seq, itemsize, job.hardware.accelerator)
            if how is None:
                return None
            tile = how.tiles.forward if kernel == "flash_forward" else how.tiles.backward
            work = tile_work(pattern, batch, seq, tile, kernel)
            cycles += kernel_cycles(schedule, kernel, work) * kinds.count(kind) / len(kinds)
        return round(cycles)

    return rule
