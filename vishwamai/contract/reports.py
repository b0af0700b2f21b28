"""What a trainer tells the control plane, and the answer it gets.

Reports are batches of events, numbered within an attempt: (attempt, seq) strictly increases, a repeat is acknowledged
and ignored, and an attempt older than the job's newest is fenced off (409). The answer carries a directive.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.states import Cause

Phase = Literal["starting", "restoring", "compiling", "training", "evaluating", "saving", "finishing"]
Directive = Literal["continue", "save", "stop"]
MAX_EVENTS = 1000
"""Events in one report, at most."""
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A step, or a number of tokens or bytes: what a database's integer holds."""
MAX_PARTS = 16
"""Parts of a loss in one event, at most."""
PartName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
"""A part's name, which becomes a series and a label: a word of at most 32 letters."""
UNDELIVERED = "reports"
"""Folder in a job's output where a trainer leaves reports it could not deliver, each attempt-NNNNNN-SSSSSSSSSS.json."""


class Event(Value):
    """What all events share."""

    time: datetime = Field(description="When it happened, by the trainer's clock, with offset.")


class PhaseEvent(Event):
    """The trainer began to do something else."""

    kind: Literal["phase"] = "phase"
    phase: Phase
    step: Count
    message: str | None = None


class StepEvent(Event):
    """The state of training at a logged step; rates are means since the one before."""

    kind: Literal["step"] = "step"
    step: Count
    loss: float | None = Field(description="Mean training loss in nats per token of this step; null: no number.")
    learning_rate: float
    grad_norm: float | None = Field(description="Global norm before clipping; null: no number.")
    tokens: Count = Field(description="Tokens trained on since the run began, over all attempts.")
    tokens_per_second: float
    step_seconds: float
    data_wait_seconds: float = Field(0.0, description="Mean wait for input inside step_seconds.")
    finite: bool = Field(True, description="False: loss or gradients were no numbers, and the step was skipped.")
    parts: dict[PartName, float] | None = Field(
        None,
        max_length=MAX_PARTS,
        description="Beside a teacher, means per token of this step: ce, kl and hidden make up the loss; teacher_loss "
        "is the teacher's own, agreement the share of tokens that both find likeliest.",
    )


class EvalEvent(Event):
    """An evaluation on held-out text."""

    kind: Literal["eval"] = "eval"
    step: Count
    name: str = Field("eval", min_length=1, max_length=64)
    loss: float = Field(description="Nats per token.")
    perplexity: float
    tokens: Count
    seconds: float


class CheckpointEvent(Event):
    """A checkpoint was committed, restored, deleted by retention, or could not be used."""

    kind: Literal["checkpoint"] = "checkpoint"
    action: Literal["committed", "restored", "deleted", "failed", "corrupt"]
    step: Count
    path: str
    size_bytes: Count | None = None
    seconds: float | None = None
    message: str | None = None


class LogEvent(Event):
    """One log line."""

    kind: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"] = "info"
    message: str


class EffectiveEvent(Event):
    """What really ran, as the trainer found it: devices, mesh, precision, kernels, versions, corpus."""

    kind: Literal["effective"] = "effective"
    settings: dict[str, Any]


class SampleEvent(Event):
    """Text the model wrote."""

    kind: Literal["sample"] = "sample"
    step: Count
    prompt: str
    text: str


class FinishedEvent(Event):
    """The attempt's last words: why it ends. The exit code says the same."""

    kind: Literal["finished"] = "finished"
    cause: Cause
    step: Count
    message: str


AnyEvent = Annotated[
    PhaseEvent | StepEvent | EvalEvent | CheckpointEvent | LogEvent | EffectiveEvent | SampleEvent | FinishedEvent,
    Field(discriminator="kind"),
]


class Report(Value):
    """One batch of events from one process of one attempt."""

    attempt: int = Field(ge=1, le=2**31 - 1)
    seq: int = Field(ge=1, le=2**63 - 1, description="1, 2, 3, ... within (attempt, process).")
    process: int = Field(0, ge=0, le=2**31 - 1, description="Index of the trainer process.")
    sent_at: datetime
    events: list[AnyEvent] = Field(max_length=MAX_EVENTS)


class ReportReceipt(Value):
    """The control plane's answer."""

    accepted: bool = Field(description="False: a repeat, already stored.")
    seq: int = Field(description="Highest number stored for this attempt and process.")
    directive: Directive = Field("continue", description="save: checkpoint now and go on; stop: end as cancelled.")
    save: bool = Field(True, description="With stop: checkpoint before ending.")
