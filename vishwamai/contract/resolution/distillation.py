"""Which teacher, and which of the section's settings take effect. What the teacher is like, the trainer finds out."""

from vishwamai.contract.problems import Notice
from vishwamai.contract.resolution.cache import is_address, reads_cache, settle_cache
from vishwamai.contract.resolution.draft import Draft
from vishwamai.contract.resolved import Precision, SiteDefaults

_TEACHER = "distillation.teacher_model"
_STORES = ("gs://", "s3://")


def settle_distillation(draft: Draft, site: SiteDefaults, precision: Precision) -> list[Notice]:
    """Decides the section distillation; the notices forbid a launch without the teacher that was asked for."""
    if draft["distillation"] is None:
        return []
    notices = settle_cache(draft)
    if draft["distillation.cache"] is not None and matches_layers(draft["distillation"]):
        why = "a cache keeps what the teacher predicts, not its hidden states"
        draft.decide("distillation.use_intermediate_distillation", False, why)
    _explain_unused(draft)
    _explain_layers(draft)
    if reads_cache(draft):
        _compare_teacher(draft, site)
        return notices
    if draft["distillation.teacher_dtype"] is None:
        why = "not given, so the teacher's weights are kept in the type that the step computes in"
        draft.decide("distillation.teacher_dtype", precision.compute, why)
    return notices + _find_teacher(draft, site)


def is_stored(teacher: str) -> bool:
    """Whether a teacher is at an address of an object store, from which trainers copy it."""
    return teacher.startswith(_STORES)


def is_path(teacher: str) -> bool:
    """Whether a teacher is named by its place: a name has no slash and begins with no dot or tilde."""
    return "/" in teacher or "\\" in teacher or teacher.startswith((".", "~"))


def _find_teacher(draft: Draft, site: SiteDefaults) -> list[Notice]:
    teacher: str = draft[_TEACHER]
    if folder := site.teachers.get(teacher):
        draft.decide(_TEACHER, folder, f"where this site keeps {teacher}")
        return []
    if is_stored(teacher):
        draft.explain(_TEACHER, teacher, "an address, copied by the trainer when it starts")
        return []
    if is_address(teacher):
        message = f"The teacher {teacher} is an address of a kind that this release does not read."
        return [_blocked("teacher-address", message, "Name a folder, or a gs:// or s3:// address.")]
    if is_path(teacher):
        draft.explain(_TEACHER, teacher, "a folder, read by the trainer when it starts")
        return []
    known = ", ".join(sorted(site.teachers)) or "none"
    message = f"{teacher} is no teacher that this site knows ({known}), and no job of its."
    fix = f"Name a folder (./{teacher} for one beside the trainer), or let VISHWAMAI_TEACHERS say where {teacher} is."
    return [_blocked("unknown-teacher", message, fix)]


def _compare_teacher(draft: Draft, site: SiteDefaults) -> None:
    """The cache says who taught; a teacher that can be found is only compared with that."""
    teacher: str = draft[_TEACHER]
    if folder := site.teachers.get(teacher):
        draft.decide(_TEACHER, folder, f"where this site keeps {teacher}; not loaded, since a cache is read")
    elif _TEACHER in draft.asked:
        draft.explain(_TEACHER, teacher, "not loaded, since a cache is read; compared with it where it is found")
    name = "distillation.teacher_dtype"
    if name in draft.asked:
        draft.explain(name, draft[name], "not used: no teacher is loaded")


def _blocked(code: str, message: str, fix: str) -> Notice:
    return Notice(code=code, pointer="/distillation/teacher_model", message=message, fix=fix, blocks_launch=True)


def _explain_unused(draft: Draft) -> None:
    section = draft["distillation"]
    if "distillation.jsd_beta" in draft.asked and section["divergence"] != "jsd":
        why = f"not used: only jsd has it, and divergence is {section['divergence']}"
        draft.explain("distillation.jsd_beta", section["jsd_beta"], why)
    if matches_layers(section):
        return
    idle, why = ["intermediate_layer_mapping", "hidden_loss"], "not used: hidden_weight is 0"
    if not section["use_intermediate_distillation"]:
        idle, why = [*idle, "hidden_weight"], "not used: use_intermediate_distillation is false"
    for name in idle:
        if f"distillation.{name}" in draft.asked:
            draft.explain(f"distillation.{name}", section[name], why)


def _explain_layers(draft: Draft) -> None:
    section = draft["distillation"]
    if not matches_layers(section):
        return
    mapping = section["intermediate_layer_mapping"]
    why = "pairs of [student, teacher] layers, as asked"
    if mapping == "uniform":
        why = "a student layer follows the teacher's at the same share of the depth; the trainer tells the pairs"
    elif mapping == "last":
        why = "the last layers follow each other"
    draft.explain("distillation.intermediate_layer_mapping", mapping, why)


def matches_layers(section: dict[str, object]) -> bool:
    """Whether hidden states are compared, by the section's fields."""
    return bool(section["use_intermediate_distillation"] and section["hidden_weight"])
