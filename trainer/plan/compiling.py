"""Compiles a job's step for its slice, or learns from the compiler by how much it does not fit."""

import re
import time
from dataclasses import dataclass
from typing import Any

import jax

from trainer.distill.kept import abstract_teacher
from trainer.errors import TrainerError
from trainer.mesh import make_mesh
from trainer.plan.topology import slice_devices
from trainer.step import abstract_batch, abstract_state, make_train_step
from vishwamai.contract.accelerators import Slice
from vishwamai.contract.plan import PlanMemory
from vishwamai.contract.resolved import ResolvedJob

_SIZE = r"\(?([\d.]+)([KMGT]?)\)?"
_OVER_BUDGET = (
    re.compile(rf"total memory required .*?{_SIZE} exceeds available HBM {_SIZE}"),
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
)


class CompilerRefused(TrainerError):
    """The TPU compiler does not take the program, for another reason than its memory."""


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """What became of a step."""

    memory: PlanMemory
    text: str | None
    """Optimized HLO; None when the step does not fit."""
    seconds: float


def compile_step(job: ResolvedJob, chosen: Slice) -> CompiledStep:
    """The job's training step for its slice. Raises CompilerRefused when the compiler gives up on other grounds."""
    mesh = make_mesh(job, slice_devices(chosen, job.hardware.num_slices))
    step: Any = make_train_step(job, mesh)
    lowered = step.lower(abstract_state(job, mesh), abstract_batch(job, mesh), *abstract_teacher(job, mesh))
    began = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        memory = over_budget(str(error))
        if memory is None:
            raise CompilerRefused(f"the TPU compiler refuses the step: {str(error).strip()[:2000]}") from error
        return CompiledStep(memory, None, time.perf_counter() - began)
    seconds = time.perf_counter() - began
    return CompiledStep(_memory(compiled, chosen.generation.compiler_hbm_bytes), compiled.as_text(), seconds)


def over_budget(message: str) -> PlanMemory | None:
    """What a compiler's message says about memory that is not there; None when it is about something else."""
    for pattern in _OVER_BUDGET:
        if found := pattern.search(message):
            required, available = _bytes(found[1], found[2]), _bytes(found[3], found[4])
            return PlanMemory(required=required, available=available)
    return None


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * 1024 ** " KMGT".index(unit or " "))


def _memory(compiled: jax.stages.Compiled, available: int) -> PlanMemory:
    stats = compiled.memory_analysis()
    assert stats is not None, "the TPU compiler always tells"
    arguments, outputs = stats.argument_size_in_bytes, stats.output_size_in_bytes
    aliased, temporaries = stats.alias_size_in_bytes, stats.temp_size_in_bytes
    return PlanMemory(
        arguments=arguments,
        outputs=outputs,
        aliased=aliased,
        temporaries=temporaries,
        program=stats.generated_code_size_in_bytes,
        host=stats.host_temp_size_in_bytes,
        required=arguments + outputs - aliased + temporaries,
        available=available,
    )
