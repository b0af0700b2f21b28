"""What a checkpoint keeps beside the arrays, and whether a run may go on from it.

docs/checkpoints.md has the format: what is added here is described there, and readers must do without what an older
release did not write.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax

from trainer.data.changes import check_unchanged
from trainer.errors import UserError
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.resume import Change, Effect, changes, config_hash

FORMAT = 2
"""Of the whole checkpoint. 1 had neither this number nor the config."""
_LOG = logging.getLogger(__name__)
_ELSEWHERE = "set checkpoint.restore to 'never' or checkpoint.directory to a new folder"


def kept(job: ResolvedJob, step: int, fingerprints: Mapping[str, str], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What every checkpoint says of itself.

    Args:
      job: as it runs.
      step: optimizer steps done.
      fingerprints: of tokenizer, corpus and teacher.
      metrics: `loss` in nats per token of the newest logged step, and `evaluation` with its `step` and `losses` by set.
    """
    batch = job.batch.sequences_per_step
    return {
        "format": FORMAT,
        "step": step,
        "position": {"next_step": step + 1, "sequences": step * batch, "sequences_per_step": batch},
        "dropout": {"seed": job.effective.run.seed, "step": step},
        "data": dict(fingerprints),
        "metrics": dict(metrics),
        "config": job.effective.model_dump(mode="json"),
        "config_hash": config_hash(job.effective),
        "processes": jax.process_count(),
    }


def checker(job: ResolvedJob, fingerprints: Mapping[str, str]) -> Callable[[dict[str, Any], int], None]:
    """A check that compares what a checkpoint keeps with the present run: warns, or raises UserError."""

    def check(extra: dict[str, Any], step: int) -> None:
        if extra.get("format", 1) > FORMAT:
            raise UserError(
                f"the checkpoint of step {step} has format {extra['format']}, and this release reads up to {FORMAT}: "
                f"go on with the release that wrote it, or {_ELSEWHERE}"
            )
        _check_config(extra.get("config", {}), job.effective.model_dump(mode="json"), step)
        check_unchanged(extra.get("data", {}), fingerprints, step, allow_change=job.effective.data.allow_change)
        before, now = extra.get("position", {}).get("sequences_per_step"), job.batch.sequences_per_step
        if before not in (None, now):
            _LOG.warning(
                "a step had %d sequences up to step %d, and has %d now: some windows are seen again or left out",
                before,
                step,
                now,
            )

    return check


def _check_config(before: Mapping[str, Any], now: Mapping[str, Any], step: int) -> None:
    found = changes(before, now)
    if breaking := [change for change in found if change.rule.effect is Effect.BREAKS]:
        raise UserError(
            f"the checkpoint of step {step} is of another model or optimizer than the config: {_listed(breaking)}. "
            f"Restore these settings, or {_ELSEWHERE}"
        )
    if other := [change for change in found if change.rule.effect is Effect.COURSE]:
        _LOG.warning("the run takes another course than up to the checkpoint of step %d: %s", step, _listed(other))


def _listed(found: list[Change]) -> str:
    return "; ".join(map(str, found))
