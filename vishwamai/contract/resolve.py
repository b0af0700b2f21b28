"""From what was asked to what will run: `resolve` chooses, derives and explains, and does nothing else.

Pure, total on every config that `check_config` accepts, and idempotent: the effective config resolves to itself.
A requested setting either takes effect as it stands or has a decision that says what runs instead.
"""

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.contradictions import axis_limits
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolution import not_yet
from vishwamai.contract.resolution.cache import announce_cache
from vishwamai.contract.resolution.defaults import yield_to_requests
from vishwamai.contract.resolution.distillation import settle_distillation
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.execution import batch_of, settle_execution
from vishwamai.contract.resolution.family import settle_family
from vishwamai.contract.resolution.hardware import describe, settle
from vishwamai.contract.resolution.placement import Misfit, place
from vishwamai.contract.resolution.practices import advice
from vishwamai.contract.resolution.precision import settle_precision
from vishwamai.contract.resolution.size import parameter_count
from vishwamai.contract.resolved import Batch, ResolvedJob, SiteDefaults

__all__ = ["SiteDefaults", "resolve"]


def resolve(config: TrainingConfig, site: SiteDefaults | None = None) -> ResolvedJob:
    """The job that a checked config becomes at a site.

    Raises InvalidConfig only for a config that `check_config` would have refused.
    """
    site = site or SiteDefaults()
    draft = Draft(config)
    yield_to_requests(draft)
    settle_family(draft)
    placement = place(draft.asked, axis_limits(draft.asked), site.accelerator)
    if isinstance(placement, Misfit):
        raise InvalidConfig([placement.problem])
    settle(draft, placement, site.platform)
    hardware = describe(placement, site.platform, spot=draft["tpu.spot"])
    precision = settle_precision(draft, hardware, placement.mesh)
    execution = settle_execution(draft, hardware, placement.mesh, precision)
    not_yet.answer(draft)
    blocking = settle_distillation(draft, site, precision)

    effective = draft.config()
    batch = batch_of(effective, placement.devices)
    _explain_batch(draft, batch, placement.devices)
    announce_cache(draft, batch)
    job = ResolvedJob(
        requested=config.model_dump(mode="json", exclude_unset=True),
        effective=effective,
        hardware=hardware,
        mesh=placement.mesh,
        precision=precision,
        execution=execution,
        batch=batch,
        parameters=parameter_count(effective),
        decisions=draft.decisions,
        warnings=blocking,
    )
    return job.model_copy(update={"warnings": blocking + advice(job)})


def _explain_batch(draft: Draft, batch: Batch, devices: int) -> None:
    size, window = draft["training.batch_size"], draft["model.max_seq_len"]
    draft.explain(
        "training.batch_size",
        size,
        f"per JAX device: {size} x {devices} devices = {batch.sequences_per_micro_batch} sequences in a forward pass, "
        f"x {batch.accumulation} accumulated = {batch.sequences_per_step} in a step, of {window} tokens: "
        f"{batch.tokens_per_step:,} tokens",
    )
