"""Words for the life of a job: states, causes of an end, exit codes, and what follows from each."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    PROVISIONING = "provisioning"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    SUSPENDED = "suspended"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """True when nothing more happens without a user's request."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
_ENDS = {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.SUSPENDED}

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.PROVISIONING, JobState.STARTING, *_ENDS}),
    JobState.PROVISIONING: frozenset({JobState.STARTING, JobState.RUNNING, JobState.RESTARTING, *_ENDS}),
    JobState.STARTING: frozenset({JobState.RUNNING, JobState.RESTARTING, *_ENDS}),
    JobState.RUNNING: frozenset({JobState.RESTARTING, *_ENDS}),
    JobState.RESTARTING: frozenset({JobState.PROVISIONING, JobState.STARTING, JobState.RUNNING, *_ENDS}),
    JobState.SUSPENDED: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    # A retry starts an ended job again under the same id.
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}
"""Every move a job may make; staying where it is needs no entry."""


class Cause(StrEnum):
    """Why an attempt ended."""

    COMPLETED = "completed"
    USER_ERROR = "user_error"
    OUT_OF_MEMORY = "out_of_memory"
    NON_FINITE = "non_finite"
    STALLED = "stalled"
    PREEMPTED = "preempted"
    MAINTENANCE = "maintenance"
    HOST_ERROR = "host_error"
    IMAGE_ERROR = "image_error"
    QUOTA = "quota"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


Retry = Literal["never", "free", "counted"]


@dataclass(frozen=True, slots=True)
class CauseFacts:
    """What follows from a cause."""

    exit_code: int
    """The code our trainer exits with; the first of the codes read as this cause."""
    retry: Retry
    """never: the job ends; free: start again at once; counted: start again while run.max_restarts lasts."""
    hint: str
    """What its owner can do, one sentence."""


CAUSES: dict[Cause, CauseFacts] = {
    Cause.COMPLETED: CauseFacts(0, "never", "Nothing to do."),
    Cause.INTERNAL: CauseFacts(1, "counted", "Read the last log lines; if the trainer is at fault, report them."),
    Cause.USER_ERROR: CauseFacts(2, "never", "Mend the config or the data as the message says, then retry."),
    Cause.OUT_OF_MEMORY: CauseFacts(
        70, "never", "Lower training.batch_size, turn on memory.gradient_checkpointing, or take a larger slice."
    ),
    Cause.NON_FINITE: CauseFacts(
        71, "never", "Lower training.learning_rate or lengthen warmup_steps, then retry from an earlier checkpoint."
    ),
    Cause.STALLED: CauseFacts(72, "counted", "Read the thread dump in the log; a host or the network may be at fault."),
    Cause.PREEMPTED: CauseFacts(73, "free", "Nothing to do: it resumes from its last checkpoint."),
    Cause.HOST_ERROR: CauseFacts(
        74, "counted", "Check the host and its disk; training resumes from the last checkpoint."
    ),
    Cause.CANCELLED: CauseFacts(75, "never", "Retry the job to go on from its last checkpoint."),
    Cause.MAINTENANCE: CauseFacts(76, "free", "Nothing to do: it resumes from its last checkpoint."),
    Cause.IMAGE_ERROR: CauseFacts(77, "never", "Check the image's name and that the nodes may pull it."),
    Cause.QUOTA: CauseFacts(79, "counted", "Ask for quota, or pick another accelerator or zone."),
}

_BY_EXIT_CODE = {facts.exit_code: cause for cause, facts in CAUSES.items()} | {
    78: Cause.USER_ERROR,  # EX_CONFIG
    137: Cause.HOST_ERROR,  # SIGKILL: the kernel or an operator, never the trainer itself
    143: Cause.PREEMPTED,  # SIGTERM before the trainer could install its handler
}


def cause_of_exit(exit_code: int) -> Cause:
    """The cause that an exit code stands for; a negative code is a signal number, as subprocess has it."""
    return _BY_EXIT_CODE.get(128 - exit_code if exit_code < 0 else exit_code, Cause.INTERNAL)
