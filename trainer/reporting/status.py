"""What /status answers: how far the run has come, from the newest events."""

from collections.abc import Mapping
from typing import Any

from trainer.reporting.reporter import Sink
from vishwamai.contract.api import Progress
from vishwamai.contract.problems import Notice
from vishwamai.contract.reports import (
    AnyEvent,
    CheckpointEvent,
    EvalEvent,
    FinishedEvent,
    GoodputEvent,
    NoticeEvent,
    PhaseEvent,
    Spending,
    StepEvent,
)


class Status(Sink):
    """Keeps the newest of everything."""

    def __init__(self, *, job_id: str | None, attempt: int, max_steps: int) -> None:
        self._identity = {"job_id": job_id, "attempt": attempt}
        self._progress = Progress(max_steps=max_steps)
        self._last_checkpoint: int | None = None
        self._cause: str | None = None
        self._notices: dict[str, Notice] = {}
        self._goodput: Mapping[Spending, float] = {}

    def receive(self, event: AnyEvent) -> None:
        """Takes what the event says about progress."""
        match event:
            case StepEvent():
                left = self._progress.max_steps - event.step
                self._update(
                    step=event.step,
                    loss=event.loss,
                    learning_rate=event.learning_rate,
                    tokens=event.tokens,
                    tokens_per_second=event.tokens_per_second,
                    eta_seconds=left * event.step_seconds,
                    reported_at=event.time,
                )
            case EvalEvent(main=True):
                self._update(step=event.step, eval_loss=event.loss, reported_at=event.time)
            case PhaseEvent():
                self._update(step=event.step, phase=event.phase, reported_at=event.time)
            case CheckpointEvent(action="committed" | "restored"):
                self._last_checkpoint = event.step
            case NoticeEvent(notice=notice, holds=holds):
                self._notices.pop(notice.code, None)
                if holds:
                    self._notices[notice.code] = notice
            case GoodputEvent():
                self._goodput = event.seconds
            case FinishedEvent():
                self._cause = event.cause.value
                self._update(step=event.step, reported_at=event.time)
            case _:
                pass

    def resume(self, step: int, evaluated: int) -> None:
        """The step that training goes on from."""
        self._update(step=step)

    def snapshot(self) -> dict[str, Any]:
        """The fields of api.Progress, job_id, attempt, last_checkpoint (step), cause (once ended), notices, goodput."""
        progress = self._progress.model_dump(mode="json")
        return (
            self._identity
            | progress
            | {
                "last_checkpoint": self._last_checkpoint,
                "cause": self._cause,
                "notices": [notice.model_dump(mode="json") for notice in self._notices.values()],
                "goodput": self._goodput,
            }
        )

    def _update(self, **changes: Any) -> None:
        fraction = changes["step"] / self._progress.max_steps
        self._progress = self._progress.model_copy(update=changes | {"fraction": min(1.0, fraction)})
