"""The run as Prometheus metrics, names beginning with vishwamai_trainer_."""

import math

from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info

from trainer.reporting.reporter import Sink
from vishwamai.contract.reports import AnyEvent, CheckpointEvent, EvalEvent, PhaseEvent, StepEvent

_PHASES = ["starting", "restoring", "compiling", "training", "evaluating", "saving", "finishing"]
_STEP_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100)


class PrometheusMetrics(Sink):
    """Keeps its own registry up to date, so that several runs may live in one process."""

    def __init__(self, *, job_id: str | None, attempt: int, max_steps: int) -> None:
        self.registry = registry = CollectorRegistry()

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(f"vishwamai_trainer_{name}", help_text, registry=registry)

        self._step = gauge("step", "Newest logged optimizer step.")
        gauge("max_steps", "Optimizer steps in the whole run.").set(max_steps)
        self._loss = gauge("loss", "Training loss in nats per token.")
        self._eval_loss = gauge("eval_loss", "Evaluation loss in nats per token.")
        self._gradient_norm = gauge("gradient_norm", "Global gradient norm before clipping.")
        self._learning_rate = gauge("learning_rate", "Learning rate.")
        self._tokens_per_second = gauge("tokens_per_second", "Training tokens per second.")
        self._data_wait = gauge("data_wait_seconds", "Mean wait for input in a step.")
        self._checkpoint_step = gauge("last_checkpoint_step", "Step of the newest committed checkpoint.")
        self._checkpoint_time = gauge("last_checkpoint_timestamp_seconds", "When it was committed.")
        self._parts = Gauge(
            "vishwamai_trainer_loss_part",
            "Beside a teacher: what the loss is made of, and how the two models compare.",
            ["part"],
            registry=registry,
        )
        self._tokens = Counter("vishwamai_trainer_tokens", "Tokens trained on by this process.", registry=registry)
        self._step_seconds = Histogram(
            "vishwamai_trainer_step_seconds",
            "Duration of optimizer steps, as means between logged steps.",
            buckets=_STEP_SECONDS,
            registry=registry,
        )
        self._phase = Enum("vishwamai_trainer_phase", "What the trainer is doing.", states=_PHASES, registry=registry)
        info = Info("vishwamai_trainer_attempt", "Which attempt of which job this is.", registry=registry)
        info.info({"job_id": job_id or "", "attempt": str(attempt)})
        self._before: tuple[int, int] | None = None
        """Step and tokens of the run when this process last looked; None until it knows."""

    def receive(self, event: AnyEvent) -> None:
        """Takes what the event says about the metrics."""
        match event:
            case StepEvent():
                self._receive_step(event)
            case EvalEvent():
                self._eval_loss.set(event.loss)
            case CheckpointEvent(action="committed"):
                self._checkpoint_step.set(event.step)
                self._checkpoint_time.set(event.time.timestamp())
            case PhaseEvent():
                self._phase.state(event.phase)
            case _:
                pass

    def resume(self, step: int) -> None:
        """At the very beginning no tokens have been trained on; later the first logged step tells how many."""
        self._before = (0, 0) if step == 0 else None

    def _receive_step(self, event: StepEvent) -> None:
        self._step.set(event.step)
        self._loss.set(_shown(event.loss))
        self._gradient_norm.set(_shown(event.grad_norm))
        self._learning_rate.set(event.learning_rate)
        self._tokens_per_second.set(event.tokens_per_second)
        self._data_wait.set(event.data_wait_seconds)
        for name, value in (event.parts or {}).items():
            self._parts.labels(name).set(value)
        if self._before is not None:
            step, tokens = self._before
            self._tokens.inc(max(0, event.tokens - tokens))
            for _ in range(event.step - step):
                self._step_seconds.observe(event.step_seconds)
        self._before = event.step, event.tokens


def _shown(value: float | None) -> float:
    """Prometheus has a way to write what is no number."""
    return math.nan if value is None else value
