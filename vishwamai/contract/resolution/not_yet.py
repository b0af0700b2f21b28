"""Settings that no trainer of this release acts on. Each later capability deletes its lines here."""

from vishwamai.contract.problems import Notice
from vishwamai.contract.resolution.draft import Draft


def answer(draft: Draft) -> list[Notice]:
    """Decides the settings without a trainer behind them; the notices forbid a launch that would ignore its point."""
    if draft["logging.profile_every"]:
        draft.decide("logging.profile_every", 0, "this release captures no profiles")
    if draft["distillation"] is None:
        return []
    teacher = draft["distillation.teacher_model"]
    draft.explain(
        "distillation",
        None,
        f"this release cannot learn from a teacher; {teacher} would be ignored, so nothing is launched",
    )
    return [
        Notice(
            code="distillation-not-in-this-release",
            pointer="/distillation",
            message=f"The config is valid, but no trainer of this release can distil from {teacher}.",
            fix="Remove the section distillation to train on the data alone, or wait for a release that distils.",
            blocks_launch=True,
        )
    ]
