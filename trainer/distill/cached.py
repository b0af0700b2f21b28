"""The cache that a training learns from: whether it is there and of this model's kind. Needs no JAX."""

from pathlib import Path

from trainer.distill.cache_files import SETTING, check_facts, check_files, read_manifest
from trainer.errors import UserError
from vishwamai.contract.resolved import Decision, ResolvedJob, TeacherCache


def find_cache(job: ResolvedJob, name: str) -> ResolvedJob:
    """The job with its cache, and with decisions about what is read.

    Raises UserError when there is none, it is cut off, or it was made for another model.
    """
    section, model = job.effective.distillation, job.effective.model
    assert section is not None
    folder = Path(name).expanduser()
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(
            f"{SETTING} {name!r} holds no cache: write it first, with this config and run.kind cache_teacher"
        )
    check_facts(manifest, {"vocab_size": model.vocab_size, "window_length": model.max_seq_len}, folder)
    check_files(folder, manifest, contents=False)
    kept = manifest.number("top_k")
    wanted = section.cache_top_k or kept
    if wanted > kept:
        check_facts(manifest, {"top_k": wanted}, folder)
    windows = sum(one.windows for one in manifest.files)
    why = f"{windows:,} windows of a teacher with fingerprint {manifest.facts['teacher']}, in place of the teacher"
    decided = [
        Decision(setting=SETTING, requested=section.cache, effective=name, why=why),
        Decision(
            setting="distillation.cache_top_k",
            requested=section.cache_top_k,
            effective=wanted,
            why=f"of {kept} words of each token that the cache keeps",
        ),
    ]
    settings = {one.setting for one in decided}
    return job.model_copy(
        update={
            "teacher_cache": TeacherCache(
                folder=str(folder), top_k=wanted, teacher_fingerprint=str(manifest.facts["teacher"])
            ),
            "decisions": [one for one in job.decisions if one.setting not in settings] + decided,
        }
    )
