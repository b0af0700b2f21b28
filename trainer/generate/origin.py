"""Where a model comes from: the output folder of a run, or a Hugging Face checkpoint.

Reads no weights and needs no JAX, because the job says on which devices JAX is to run.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.errors import UserError
from trainer.huggingface.load import Source, read_source
from trainer.huggingface.plain import plain_job
from vishwamai.contract.resolved import Mesh, Platform, ResolvedJob


@dataclass(frozen=True, slots=True)
class Origin:
    """A model that can write."""

    folder: Path
    job: ResolvedJob
    eos_ids: tuple[int, ...]
    imported: Source | None
    """None: a run's."""


def find_origin(folder: Path, platform: Platform, tokenizer: str | None) -> Origin:
    """The model in a folder.

    Args:
        folder: of a run, where resolved.json is, or of a Hugging Face checkpoint.
        platform: what this machine has, for a checkpoint; a run says itself where it belongs.
        tokenizer: "byte" or a file, in place of the one that the folder names.

    Raises:
        UserError: the folder is neither, or holds a model that is not supported.
    """
    resolved = folder / "resolved.json"
    if resolved.is_file():
        return _of_run(folder, resolved, tokenizer)
    if not (folder / "config.json").is_file():
        raise UserError(f"{str(folder)!r} holds neither the resolved.json of a run nor a Hugging Face config.json")
    return _of_checkpoint(read_source(folder), platform, tokenizer)


def _of_run(folder: Path, resolved: Path, tokenizer: str | None) -> Origin:
    try:
        job = ResolvedJob.model_validate_json(resolved.read_bytes())
    except ValidationError as error:
        raise UserError(f"{str(resolved)!r} is not a resolved job: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {str(resolved)!r}: {error.strerror}") from error
    if job.hardware.platform == "cpu":
        # Virtual devices share one CPU: together they are no faster than one.
        hardware = job.hardware.model_copy(update={"num_slices": 1})
        job = job.model_copy(update={"mesh": Mesh(), "hardware": hardware})
    if tokenizer is not None:
        job = _with(job, "data", tokenizer=tokenizer)
    return Origin(folder, job, (job.effective.sequence.eos_token_id,), None)


def _of_checkpoint(source: Source, platform: Platform, tokenizer: str | None) -> Origin:
    if tokenizer is None and not (source.folder / "tokenizer.json").is_file():
        raise UserError(f"{str(source.folder)!r} holds no tokenizer.json: name one with --tokenizer")
    job = plain_job(source.model, platform=platform, compute="float32" if platform == "cpu" else "bfloat16")
    eos = _ids(source.config, "eos_token_id") or _ids(_generation_config(source.folder), "eos_token_id")
    pad = _ids(source.config, "pad_token_id")
    job = _with(
        job,
        "sequence",
        max_length=source.model.max_seq_len,
        min_length=0,
        eos_token_id=eos[0] if eos else 0,
        # Without one of its own, padding is the end, which may be drawn.
        pad_token_id=pad[0] if pad else eos[0] if eos else 0,
    )
    job = _with(job, "memory", kv_cache_fp8=False)
    job = _with(job, "data", tokenizer=tokenizer or str(source.folder / "tokenizer.json"))
    return Origin(source.folder, job, eos, source)


def _with(job: ResolvedJob, section: str, **values: Any) -> ResolvedJob:
    changed = getattr(job.effective, section).model_copy(update=values)
    return job.model_copy(update={"effective": job.effective.model_copy(update={section: changed})})


def _ids(config: Any, key: str) -> tuple[int, ...]:
    """One id, several, or none."""
    found = config.get(key)
    return tuple(i for i in (found if isinstance(found, list) else [found]) if isinstance(i, int) and i >= 0)


def _generation_config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
