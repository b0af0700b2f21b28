"""The teacher that a config names, as far as the control plane can tell at submission."""

import re
from pathlib import Path

from service.operations.context import Context
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolution.distillation import is_path
from vishwamai.contract.resolved import ResolvedJob

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_JOB_ID = re.compile(f"j[{DIGITS}]{{17}}")


def known_teachers(context: Context, name: str | None) -> dict[str, str]:
    """Folders of the teachers that a config may name: the site's, and the job's output where the name is a job's id."""
    teachers = dict(context.teachers)
    if name is not None and name not in teachers and _JOB_ID.fullmatch(name) and context.store.job(name) is not None:
        teachers[name] = context.launcher.output(name)
    return teachers


def absent_teacher(context: Context, name: str | None, resolved: ResolvedJob) -> list[Notice]:
    """Forbids to launch beside a teacher whose folder is not there.

    For trainers on this machine, which start where the control plane was started. A job's id is
    passed over: that job may train first.
    """
    section = resolved.effective.distillation
    if section is None or name is None:
        return []
    if not (is_path(name) or name in context.teachers) or Path(section.teacher_model).expanduser().is_dir():
        return []
    where = f"{section.teacher_model!r} is no folder on this machine"
    message = f"The teacher {where}." if is_path(name) else f"The site keeps {name} in a folder, and {where}."
    fix = "Name a folder that holds a checkpoint or a run, or put one there."
    pointer = "/distillation/teacher_model"
    return [Notice(code="teacher-missing", pointer=pointer, message=message, fix=fix, blocks_launch=True)]
