"""Collects what steps tell and how long they take, without making the host wait for each of them."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from trainer.errors import NonFiniteError
from trainer.reporting import now
from trainer.step import StepMetrics
from vishwamai.contract.reports import StepEvent
from vishwamai.contract.states import CAUSES, Cause

_LOG = logging.getLogger(__name__)


class Meter:
    """Metrics since the last logged step, read from the device only when they are wanted."""

    def __init__(self, tokens: int = 0, *, max_bad_steps: int = 1) -> None:
        """`max_bad_steps`: so many in a row end the run (trainer/loss_scale.py says what a bad step is)."""
        self.tokens = tokens
        """Trained on since the run began, up to the last `settle`."""
        self._max_bad_steps = max_bad_steps
        self._unread: list[tuple[int, StepMetrics]] = []
        self._newest: StepMetrics | None = None
        self._began_at = time.perf_counter()
        self._begin()

    def add(self, step: int, metrics: StepMetrics, data_wait: float) -> None:
        """One step was sent to the device; waits for the one before it, so that no order has to wait for many."""
        if self._unread:
            jax.block_until_ready(self._unread[-1][1].loss)
        self._unread.append((step, metrics))
        self._steps += 1
        self._data_wait += data_wait

    def settle(self) -> None:
        """Waits for all steps so far. Raises NonFiniteError after too many bad ones in a row, naming the first."""
        unread, self._unread = self._unread, []
        for step, metrics in zip((step for step, _ in unread), jax.device_get([m for _, m in unread]), strict=True):
            if metrics.finite:
                self.tokens += round(float(metrics.tokens))
            else:
                self._answer(step, metrics)
            self._newest = metrics

    def _answer(self, step: int, metrics: StepMetrics) -> None:
        what = f"Loss {float(metrics.loss)} and gradient norm {float(metrics.grad_norm)} at step {step}"
        bad = int(metrics.health.bad)
        if bad >= self._max_bad_steps:
            many = f", the last of {bad} such steps in a row" if bad > 1 else ""
            message = f"{what}{many}: the weights of that step were not saved. {CAUSES[Cause.NON_FINITE].hint}"
            raise NonFiniteError(message, first_step=step - bad + 1)
        scale = f"; the loss scale is now {float(metrics.health.scale):g}" if not bad else ""
        _LOG.warning("%s: the step is skipped, the %d. of this run%s", what, int(metrics.health.skipped), scale)

    def read(self, step: int) -> StepEvent:
        """Waits for the steps and sums up those since the last reading."""
        before = self._tokens_before
        self.settle()
        assert self._newest is not None, "no step to read"
        seconds = max(time.perf_counter() - self._began_at - self._paused, 1e-9)
        event = StepEvent(
            time=now(),
            step=step,
            loss=_number(self._newest.loss),
            learning_rate=float(self._newest.learning_rate),
            grad_norm=_number(self._newest.grad_norm),
            tokens=self.tokens,
            tokens_per_second=(self.tokens - before) / seconds,
            step_seconds=seconds / self._steps,
            data_wait_seconds=self._data_wait / self._steps,
            finite=bool(self._newest.finite),
            parts={name: float(x) for name, x in self._newest.parts.items() if math.isfinite(x)} or None,
        )
        self._begin()
        return event

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside is not training and does not count in step times."""
        self.settle()
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began

    def _begin(self) -> None:
        self._began_at = time.perf_counter()
        self._paused = 0.0
        self._data_wait = 0.0
        self._steps = 0
        self._tokens_before = self.tokens


def _number(x: jax.Array) -> float | None:
    """The scalar, or None for what JSON has no number for."""
    return float(x) if math.isfinite(x) else None
