"""Events with plausible contents."""

from typing import Any

from trainer.reporting import now
from vishwamai.contract.reports import CheckpointEvent, EvalEvent, StepEvent


def step_event(step: int, **changes: Any) -> StepEvent:
    fields: dict[str, Any] = {
        "loss": 2.5,
        "learning_rate": 1e-3,
        "grad_norm": 0.5,
        "tokens": 100 * step,
        "tokens_per_second": 18_200.0,
        "step_seconds": 0.25,
    }
    return StepEvent(time=now(), step=step, **(fields | changes))


def eval_event(step: int, loss: float = 2.0, **more: Any) -> EvalEvent:
    return EvalEvent(time=now(), step=step, loss=loss, perplexity=7.4, tokens=512, seconds=0.5, **more)


def committed(step: int) -> CheckpointEvent:
    return CheckpointEvent(
        time=now(), action="committed", step=step, path=f"/c/{step}", size_bytes=3_200_000, seconds=0.4
    )
