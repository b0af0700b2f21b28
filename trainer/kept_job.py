"""The job that a checkpoint is of, by the config that it keeps: for checkpoints whose run's folder is elsewhere.

Needs no JAX.
"""

from collections.abc import Mapping
from typing import Any

from trainer.errors import UserError
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults


def kept_job(extra: Mapping[str, Any], directory: str) -> ResolvedJob:
    """The job of a checkpoint in `directory`, where its own checkpoints are now.

    Args:
      extra: what the checkpoint keeps beside its arrays.
      directory: the folder or address of the checkpoints.

    Raises UserError when it keeps no config, or none of this release.
    """
    if (config := extra.get("config")) is None:
        raise UserError(f"the checkpoints in {directory!r} have no config beside them: name the run's folder")
    try:
        job = resolve(check_config(config), SiteDefaults(platform="cpu"))
    except InvalidConfig as error:
        where = f"the config kept with the checkpoints in {directory!r}"
        raise UserError(f"{where} is none of this release: {error}") from error
    checkpoint = job.effective.checkpoint.model_copy(update={"directory": directory})
    return job.model_copy(update={"effective": job.effective.model_copy(update={"checkpoint": checkpoint})})
