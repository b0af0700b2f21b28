"""`python -m trainer plan`: what a config's step needs and costs on a slice, by the TPU compiler itself."""

import tempfile
from collections.abc import MutableMapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.distill.teacher import find_teacher
from trainer.errors import UserError
from trainer.plan.topology import prepare_compiler
from vishwamai.contract.accelerators import Slice, slice_for
from vishwamai.contract.load import check_config
from vishwamai.contract.plan import Plan
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Decision, ResolvedJob, SiteDefaults


@dataclass(frozen=True, slots=True)
class Subject:
    """A job to plan."""

    job: ResolvedJob
    slice: Slice
    decisions: list[Decision]
    """Those that its own slice would not have brought."""


def choose_slice(document: dict[str, Any], asked: str | None) -> dict[str, Any]:
    """A copy of the config's document for a slice such as "v5e:2x4", whatever slice it was written for.

    On another slice than its own it has that slice's cores, and its mesh is what device_strategy says. Raises UserError
    or InvalidConfig for a slice that does not exist.
    """
    changed = deepcopy(document)
    if asked is None:
        return changed
    accelerator, colon, topology = asked.partition(":")
    if not colon or not accelerator or not topology:
        raise UserError(f"--slice {asked}: write it as ACCELERATOR:TOPOLOGY, such as v5e:2x4")
    if not all(side.isdecimal() and 0 < int(side) < 10_000 for side in topology.split("x")):
        raise UserError(f"--slice {asked}: {topology} is no topology such as 2x4 or 2x2x2")
    tpu = changed.setdefault("tpu", {})
    if not isinstance(tpu, dict):
        return changed  # check_config says what is wrong with it
    chosen = slice_for(accelerator, topology, multi_host=tpu.get("num_slices", 1) != 1)
    if not _is_own(document, chosen):
        tpu |= {"accelerator": accelerator, "tpu_topology": chosen.topology}
        for bound_to_the_other in ("tpu_cores", "mesh_shape"):
            tpu.pop(bound_to_the_other, None)
    return changed


def _is_own(document: dict[str, Any], chosen: Slice) -> bool:
    own = _own_job(document)
    return own is not None and (own.hardware.accelerator, own.hardware.topology) == (
        chosen.generation.name,
        chosen.topology,
    )


def _own_job(document: dict[str, Any]) -> ResolvedJob | None:
    """What the config becomes where it was written for; None when that does not exist."""
    try:
        return resolve(check_config(document), SiteDefaults(platform="tpu"))
    except InvalidConfig:
        return None


def settle(document: dict[str, Any], own: dict[str, Any]) -> Subject:
    """Resolves a document; `own` is what it was before a slice was chosen for it. Raises InvalidConfig.

    A teacher is planned, too, where it is found; one that the site does not know is left out.
    """
    job = resolve(check_config(document), SiteDefaults(platform="tpu"))
    if not job.blockers:
        job = find_teacher(job)
    hardware = job.hardware
    chosen = slice_for(hardware.accelerator_label, hardware.topology, multi_host=hardware.num_slices > 1)
    return Subject(job, chosen, _changed(job.decisions, own) if document != own else [])


def _changed(decisions: list[Decision], own: dict[str, Any]) -> list[Decision]:
    """Decisions that the config's own slice would not have brought; those about the slice when it has none."""
    before = _own_job(own)
    if before is None:
        return [one for one in decisions if one.setting.startswith(("tpu.", "hardware."))]
    known = [(one.setting, one.effective) for one in before.decisions]
    return [one for one in decisions if (one.setting, one.effective) not in known]


def _must_be_writable(path: Path) -> None:
    """Raises UserError before minutes of compiling, not after."""
    try:
        path.touch()
    except OSError as error:
        raise UserError(f"--hlo {str(path)!r} cannot be written: {error.strerror}") from error


def make_plan(subject: Subject, environ: MutableMapping[str, str], hlo: Path | None) -> Plan:
    """Compiles the subject's step and costs it; writes the compiled program's text where `hlo` says.

    Must run before jax is imported. Raises UserError when there is no compiler, and CompilerRefused.
    """
    if hlo is not None:
        _must_be_writable(hlo)
    with tempfile.TemporaryDirectory(prefix="vishwamai-plan-") as folder:
        prepare_compiler(environ, Path(folder))
        from trainer.plan.compiling import compile_step  # brings jax
        from trainer.plan.cost import Costs, cost_of
        from trainer.plan.flash import flash_rule
        from trainer.plan.hlo import parse_hlo
        from trainer.plan.kernels import Kernels, read_dump
        from trainer.plan.rates import Rates
        from trainer.plan.report import plan_of
        from trainer.plan.visits import attention_trips

        rates = Rates.of(subject.slice)
        step = compile_step(subject.job, subject.slice)
        costs = None
        if step.text is not None:
            if hlo is not None:
                hlo.write_text(step.text, encoding="utf-8")
            module = parse_hlo(step.text)
            kernels = Kernels(read_dump(Path(folder), module), rates, flash_rule(subject.job), [])
            found = cost_of(module, rates, kernels, attention_trips(subject.job, module))
            costs = Costs(found.rows, [*found.notes, *dict.fromkeys(kernels.notes)])
        return plan_of(subject.job, subject.slice, step.memory, costs, rates, subject.decisions, step.seconds)
