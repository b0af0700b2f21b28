"""From what was asked to what will run: `resolve` chooses, derives and explains, and does nothing else.

Pure, total on every config that `check_config` accepts, and idempotent: the effective config resolves to itself.
A requested setting either takes effect as it stands or has a decision that says what runs instead.
"""

from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.contradictions import axis_limits
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolution import not_yet
from vishwamai.contract.resolution.defaults import yield_to_requests
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolution.execution import batch_of, parameter_count, settle_execution, settle_precision
from vishwamai.contract.resolution.hardware import describe, settle
from vishwamai.contract.resolution.placement import Misfit, place
from vishwamai.contract.resolution.practices import Subject, advice
from vishwamai.contract.resolved import Batch, ResolvedJob, SiteDefaults

__all__ = ["SiteDefaults", "resolve"]


def resolve(config: TrainingConfig, site: SiteDefaults | None = None) -> ResolvedJob:
    """The job that a checked config becomes at a site.

    Raises InvalidConfig only for a config that `check_config` would have refused.
    """
    site = site or SiteDefaults()
    draft = Draft(config)
    yield_to_requests(draft)
    placement = place(draft.asked, axis_limits(draft.asked), site.accelerator)
    if isinstance(placement, Misfit):
        raise InvalidConfig([placement.problem])
    settle(draft, placement, site.platform)
    precision = settle_precision(draft)
    execution = settle_execution(draft, placement.mesh, placement.num_slices)
    blocking = not_yet.answer(draft)

    effective = draft.config()
    hardware = describe(placement, site.platform, spot=effective.tpu.spot)
    batch = batch_of(effective, placement.devices)
    _explain_batch(draft, batch, placement.devices)
    parameters = parameter_count(effective)
    subject = Subject(config, effective, hardware, placement.mesh, precision, execution, parameters)
    return ResolvedJob(
        requested=config.model_dump(mode="json", exclude_unset=True),
        effective=effective,
        hardware=hardware,
        mesh=placement.mesh,
        precision=precision,
        execution=execution,
        batch=batch,
        parameters=parameters,
        decisions=draft.decisions,
        warnings=blocking + advice(subject),
    )


def _explain_batch(draft: Draft, batch: Batch, devices: int) -> None:
    size, window = draft["training.batch_size"], draft["model.max_seq_len"]
    draft.explain(
        "training.batch_size",
        size,
        f"per JAX device: {size} x {devices} devices = {batch.sequences_per_micro_batch} sequences in a forward pass, "
        f"x {batch.accumulation} accumulated = {batch.sequences_per_step} in a step, of {window} tokens: "
        f"{batch.tokens_per_step:,} tokens",
    )
