"""Every way a run can end gets a cause and one message."""

import errno
from pathlib import Path

from trainer.errors import StorageError, TrainerError, UserError
from vishwamai.contract.problems import InvalidConfig, Problem
from vishwamai.contract.resolution.lowering import lowering, need_in_words
from vishwamai.contract.resolution.memory import Work, estimate
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import CAUSES, Cause

_HOST_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV})

_OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory")
"""What XLA says: TPU and GPU the first, CPU only the second."""


def ending_of(error: BaseException, job: ResolvedJob | None = None) -> tuple[Cause, str]:
    """Why a run that raised `error` ends, and what its owner should read; `job` is the one that ran, if one did."""
    if isinstance(error, TrainerError):
        return error.cause, str(error)
    if isinstance(error, InvalidConfig):
        return Cause.USER_ERROR, "\n".join(map(_told, error.problems))
    if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
        return Cause.OUT_OF_MEMORY, f"Out of memory: {_first_line(error).rstrip('.')}. {_memory_advice(job)}"
    if isinstance(error, OSError) and error.errno in _HOST_ERRORS:
        return Cause.HOST_ERROR, f"{error}. {CAUSES[Cause.HOST_ERROR].hint}"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # of a place that some setting names
        return Cause.USER_ERROR, f"{error.filename!r} is longer than a file's name may be: choose another"
    return Cause.INTERNAL, f"{type(error).__name__}: {_first_line(error)}"


def _told(problem: Problem) -> str:
    """A problem in one line: where, what, what would be accepted."""
    rest = [f"accepted: {problem.accepted}"] if problem.accepted else []
    rest += [problem.hint] if problem.hint else []
    return f"{problem.pointer or '/'}: {problem.message}" + (f" ({'; '.join(rest)})" if rest else "")


def folder_problem(folder: Path, error: OSError) -> TrainerError:
    """What to raise when the output folder cannot be written to."""
    message = f"the output folder {str(folder)!r} cannot be written to: {error.strerror}"
    if error.errno in _HOST_ERRORS - {errno.EROFS, errno.ENODEV}:
        return StorageError(f"{message}. {CAUSES[Cause.HOST_ERROR].hint}")
    return UserError(f"{message}: make it writable, or choose another")


def _memory_advice(job: ResolvedJob | None) -> str:
    """What the job needs by the estimate, and the settings that lower it most."""
    if job is None:
        return CAUSES[Cause.OUT_OF_MEMORY].hint
    need = estimate(Work.of(job))
    settings = "; or ".join(lowering(job)[:3])
    return f"By the estimate a device needs {need_in_words(need)}. What lowers it most: {settings}."


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "no details"
