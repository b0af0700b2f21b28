"""Loss and perplexity on held-out text.

    loss = sum of -log p(target) over all counted targets / their number        perplexity = exp(loss)

Every token weighs the same, however the tokens fall into batches.
"""

import math
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from trainer.batch import Batch
from trainer.errors import NonFiniteError
from trainer.model import Params
from trainer.reporting import now
from trainer.step import EvalStep
from vishwamai.contract.reports import EvalEvent
from vishwamai.contract.states import CAUSES, Cause

_LARGEST_EXPONENT = 700.0


class Evaluator:
    """Evaluates parameters on batches that stay the same; `put` lays a host's batch over the mesh."""

    def __init__(self, step: EvalStep, batches: Sequence[Batch], put: Callable[[Batch], Batch]) -> None:
        self._step = step
        self._batches = [batch for batch in batches if batch.weights.any()]
        self._put = put

    @property
    def has_text(self) -> bool:
        """False when nothing was held out."""
        return bool(self._batches)

    def evaluate(self, params: Params, step: int, between: Callable[[], None] = lambda: None) -> EvalEvent:
        """The evaluation of the parameters of `step`. Raises NonFiniteError when the loss is no number.

        `between` is called before each batch; what it raises ends the evaluation.
        """
        began = time.perf_counter()
        found = []
        for batch in self._batches:
            between()
            found.append(self._step(params, self._put(batch)))
        sums = jax.device_get(found)
        total, tokens = np.sum(np.asarray(sums, np.float64), axis=0)
        loss = float(total / tokens)
        if not math.isfinite(loss):
            raise NonFiniteError(f"Evaluation loss {loss} at step {step}. {CAUSES[Cause.NON_FINITE].hint}")
        return EvalEvent(
            time=now(),
            step=step,
            loss=loss,
            perplexity=math.exp(min(loss, _LARGEST_EXPONENT)),
            tokens=round(float(tokens)),
            seconds=time.perf_counter() - began,
        )
