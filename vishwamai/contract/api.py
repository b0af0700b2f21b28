"""The bodies of the HTTP API that are not configs, reports or problems: what the service answers and the SDK reads."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolved import Decision, ResolvedJob
from vishwamai.contract.states import Cause, JobState


class Attempt(Value):
    """One life of the job's process group."""

    number: int
    started_at: datetime
    ended_at: datetime | None = None
    first_step: int | None = Field(None, description="First step trained; the one after the restored checkpoint.")
    last_step: int | None = None
    resumed_from: int | None = Field(None, description="Step of the checkpoint it started from; null from scratch.")
    lost_steps: int | None = Field(
        None, description="Steps of it that the next attempt had to take again; null until that is known."
    )
    exit_codes: dict[str, int] = Field({}, description="Exit code of each host process, by its index.")
    cause: Cause | None = None
    message: str | None = None


class Condition(Value):
    """One entry of the job's history: it came into this state at this time for this reason."""

    state: JobState
    code: str
    reason: str
    since: datetime


class Progress(Value):
    """How far the run has come, from the newest reports."""

    step: int = 0
    max_steps: int
    fraction: float = Field(
        0.0, ge=0.0, le=1.0, description="Share of the run that is done; 1 once it succeeded, early stopping included."
    )
    phase: str | None = None
    loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    eta_seconds: float | None = Field(None, description="Seconds to max_steps at the present rate; null when unknown.")
    reported_at: datetime | None = None


class Checkpoint(Value):
    """A committed checkpoint."""

    step: int
    path: str
    attempt: int
    committed_at: datetime
    size_bytes: int | None = None
    seconds: float | None = None


class Goodput(Value):
    """What a job's time went to, over all its attempts, up to the newest account."""

    wall_seconds: float = Field(description="Since the first attempt began.")
    productive_seconds: float = Field(description="In steps that count: seconds.step less lost_seconds.")
    lost_seconds: float = Field(description="In steps that a later attempt had to take again, by their share.")
    lost_steps: int
    seconds: dict[str, float] = Field(
        description="By category, together wall_seconds: init, restore, compile, data_wait, step, eval, save_stall and "
        "other as trainers report them, and `between` for processes that start and end and waits between attempts."
    )


class JobSummary(Value):
    """A job in a list."""

    id: str
    name: str
    state: JobState
    code: str = Field(description="Stable word for the reason, e.g. 'training', 'user_error'.")
    reason: str = Field(description="One sentence on why the job is in this state.")
    accelerator: str
    labels: dict[str, str] = {}
    tags: list[str] = []
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None
    progress: Progress


class Job(JobSummary):
    """One job, whole."""

    launcher: str
    output: str = Field(description="Folder or address where the job's files are.")
    resolved: ResolvedJob
    decisions: list[Decision] = Field(description="The resolved job's, for convenience.")
    warnings: list[Notice] = Field([], description="The resolved job's, and what the trainer has found since.")
    attempts: list[Attempt] = []
    conditions: list[Condition] = []
    restarts_left: int
    last_checkpoint: Checkpoint | None = None
    effective: dict[str, Any] = Field({}, description="What the trainer says really ran, from its newest report.")
    goodput: Goodput | None = Field(None, description="Null before the first account of a trainer.")
    sample: str | None = Field(None, description="Text the model wrote last.")


class JobList(Value):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(None, description="Give it as ?cursor= for the next page; null on the last.")


class Validation(Value):
    """The answer to ?validate_only=true: what would be submitted. Nothing is stored."""

    valid: Literal[True] = True
    resolved: ResolvedJob
    decisions: list[Decision]
    warnings: list[Notice] = []


class JobEvent(Value):
    """One thing that happened to a job; `id` rises within the whole service and resumes a stream."""

    id: int
    time: datetime
    attempt: int | None = None
    kind: str = Field(description="state, attempt, or the kind of a report's event (phase, eval, checkpoint, ...).")
    message: str
    data: dict[str, Any] = {}


class EventList(Value):
    """Events after the one asked from."""

    events: list[JobEvent]
    last_id: int


class LogLine(Value):
    """One line a trainer process wrote."""

    id: int
    time: datetime
    attempt: int
    process: int = 0
    level: str = "info"
    message: str


class LogPage(Value):
    """Log lines in the order written."""

    lines: list[LogLine]
    last_id: int = Field(description="Give it as ?after= to go on from here.")


class Series(Value):
    """One metric over steps."""

    name: str
    steps: list[int]
    times: list[datetime]
    values: list[float]


class MetricsPage(Value):
    """Series of a job, downsampled to max_points each with minima and maxima kept."""

    job_id: str
    series: list[Series]


class CheckpointList(Value):
    """Committed checkpoints that retention has kept, newest first."""

    checkpoints: list[Checkpoint]


class AttemptList(Value):
    """All attempts, oldest first."""

    attempts: list[Attempt]


class RetryRequest(Value):
    """How to start an ended job again."""

    from_step: int | None = Field(None, ge=0, description="Committed checkpoint to go on from; null: the newest.")


class AcceleratorFacts(Value):
    """One generation of the catalogue."""

    name: str
    labels: list[str] = Field(description="GKE accelerator labels that mean this generation.")
    dimensions: Literal[2, 3]
    devices_per_chip: int
    hbm_bytes_per_device: int
    hbm_bytes_per_second: float
    peak_bf16_flops_per_chip: float
    peak_int8_flops_per_chip: float | None = None
    peak_fp8_flops_per_chip: float | None = None
    machines: list["MachineFacts"]


class MachineFacts(Value):
    """One machine type of a generation and the slices made of it."""

    machine_type: str
    label: str
    chips: int
    vcpus: int
    memory_gb: int
    single_host_topologies: list[str]
    multi_host_topologies: list[str] = Field([], description="Multi-host shapes, smallest first.")


class AcceleratorList(Value):
    """The accelerator catalogue."""

    accelerators: list[AcceleratorFacts]


class Health(Value):
    """Liveness or readiness."""

    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = {}


class Version(Value):
    """What is running."""

    version: str
    launcher: str
