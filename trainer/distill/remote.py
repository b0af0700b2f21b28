"""Teachers and starting weights at addresses, copied to this machine before anything looks at them."""

from pathlib import Path

from trainer.remote import is_address
from trainer.remote.fetch import fetched
from vishwamai.contract.resolved import Decision, ResolvedJob

_TEACHER = "distillation.teacher_model"
_START = "checkpoint.init_from"


def with_local_models(job: ResolvedJob, cache: Path) -> ResolvedJob:
    """The job with the copies of models that it names by address; the same job if it names none.

    Args:
      job: its teacher and the weights it starts from may be at addresses.
      cache: folder of copies.

    Raises:
      UserError: there is no model at an address.
      StorageError: a store or the disk fails.
    """
    config, decisions = job.effective, list(job.decisions)
    if config.distillation is not None and is_address(config.distillation.teacher_model):
        address = config.distillation.teacher_model
        folder = str(fetched(address, _TEACHER, cache))
        section = config.distillation.model_copy(update={"teacher_model": folder})
        config = config.model_copy(update={"distillation": section})
        decisions = [one for one in decisions if one.setting != _TEACHER] + [_copied(_TEACHER, address, folder)]
    if config.checkpoint.init_from is not None and is_address(config.checkpoint.init_from):
        address = config.checkpoint.init_from
        folder = str(fetched(address, _START, cache))
        config = config.model_copy(update={"checkpoint": config.checkpoint.model_copy(update={"init_from": folder})})
        decisions = [one for one in decisions if one.setting != _START] + [_copied(_START, address, folder)]
    return job if config is job.effective else job.model_copy(update={"effective": config, "decisions": decisions})


def _copied(setting: str, address: str, folder: str) -> Decision:
    return Decision(setting=setting, requested=address, effective=folder, why="a copy of what the address holds")
