"""What a trainer tells the control plane, and the answer it gets.

Reports are batches of events, numbered within an attempt: (attempt, seq) strictly increases, a repeat is acknowledged
and ignored, and an attempt older than the job's newest is fenced off (409). The answer carries a directive.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from vishwamai.contract.base import Value
from vishwamai.contract.config import MAIN_SET
from vishwamai.contract.problems import Notice
from vishwamai.contract.states import Cause

Phase = Literal["starting", "restoring", "compiling", "training", "caching", "evaluating", "saving", "finishing"]
Spending = Literal["init", "restore", "compile", "data_wait", "step", "eval", "save_stall", "other"]
"""What a moment of an attempt goes to; trainer/goodput.py says what each means. Only `step` is productive."""
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
        "is the teacher's own, agreement the share of tokens that both find likeliest. Beside a teacher of another "
        "tokenizer all but ce are means over the share `paired` of the tokens.",
    )


class EvalEvent(Event):
    """An evaluation on held-out text."""

    kind: Literal["eval"] = "eval"
    step: Count
    name: str = Field(MAIN_SET, min_length=1, max_length=64, description="The evaluation set.")
    main: bool = Field(True, description="Whether it is the first set, whose loss stands for the run.")
    loss: float = Field(description="Nats per token.")
    perplexity: float
    bits_per_byte: float | None = Field(
        None, description="Bits for each UTF-8 byte of the evaluated text, whatever the tokenizer; null without text."
    )
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
    committed: list[Count] | None = Field(
        None, max_length=1_000_000, description="Of one restored: steps of all that are committed there."
    )


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


class RewindEvent(Event):
    """A loss went bad, and the run goes on from an earlier step without the batches at fault."""

    kind: Literal["rewind"] = "rewind"
    step: Count = Field(description="Where it goes on from; 0 is the beginning.")
    from_step: Count = Field(description="The last bad step.")
    batches: list[Count] = Field(max_length=1_000_000, description="Numbers of the batches left out, from 1.")
    message: str


class GoodputEvent(Event):
    """Where the attempt's time has gone so far; told now and then, and at the end."""

    kind: Literal["goodput"] = "goodput"
    step: Count = Field(description="Optimizer steps done.")
    wall_seconds: float = Field(ge=0, description="Since the attempt's trainer began.")
    seconds: dict[Spending, float] = Field(description="By what they went to; together they are wall_seconds.")


class NoticeEvent(Event):
    """Something about the run that its owner should know and can mend, or that holds no longer."""

    kind: Literal["notice"] = "notice"
    notice: Notice
    holds: bool = True


class FinishedEvent(Event):
    """The attempt's last words: why it ends. The exit code says the same."""

    kind: Literal["finished"] = "finished"
    cause: Cause
    step: Count
    message: str


AnyEvent = Annotated[
    PhaseEvent
    | StepEvent
    | EvalEvent
    | CheckpointEvent
    | LogEvent
    | EffectiveEvent
    | SampleEvent
    | RewindEvent
    | GoodputEvent
    | NoticeEvent
    | FinishedEvent,
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
    request: int | None = Field(
        None, description="With save: its number. A trainer that has obeyed it before in this attempt goes on."
    )
