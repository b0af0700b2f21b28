"""Loss, perplexity and bits per byte on held-out text, set by set.

    loss = sum of -log p(target) over all counted targets / their number        perplexity = exp(loss)
    bits per byte = sum of -log2 p(target) / UTF-8 bytes that the targets spell

Every token weighs the same, however the tokens fall into batches. Bits per byte compare models of different tokenizers:
the ends of documents cost bits and spell nothing.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence

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
    """Evaluates parameters on sets of batches that stay the same; `put` lays a host's batch over the mesh."""

    def __init__(
        self,
        step: EvalStep,
        sets: Mapping[str, Sequence[Batch]],
        spelled: np.ndarray,
        put: Callable[[Batch], Batch],
    ) -> None:
        """The first set is the main one; `spelled`, int64 [vocabulary], is the bytes that each token stands for."""
        self._step = step
        found = {name: [batch for batch in batches if batch.weights.any()] for name, batches in sets.items()}
        self._sets = {name: batches for name, batches in found.items() if batches}
        self._bytes = {
            name: sum(int(spelled[batch.targets[batch.weights > 0]].sum()) for batch in batches)
            for name, batches in self._sets.items()
        }
        self._put = put

    @property
    def has_text(self) -> bool:
        """False when nothing was held out."""
        return bool(self._sets)

    def evaluate(self, params: Params, step: int, between: Callable[[], None] = lambda: None) -> list[EvalEvent]:
        """The evaluation of the parameters of `step` on each set. Raises NonFiniteError when a loss is no number.

        `between` is called before each batch; what it raises ends the evaluation.
        """
        return [self._on(name, params, step, between) for name in self._sets]

    def _on(self, name: str, params: Params, step: int, between: Callable[[], None]) -> EvalEvent:
        began = time.perf_counter()
        found = []
        for batch in self._sets[name]:
            between()
            found.append(self._step(params, self._put(batch)))
        sums = jax.device_get(found)
        total, tokens = np.sum(np.asarray(sums, np.float64), axis=0)
        loss = float(total / tokens)
        if not math.isfinite(loss):
            raise NonFiniteError(f"Evaluation loss {loss} on {name} at step {step}. {CAUSES[Cause.NON_FINITE].hint}")
        spelled = self._bytes[name]
        return EvalEvent(
            time=now(),
            step=step,
            name=name,
            main=name == next(iter(self._sets)),
            loss=loss,
            perplexity=math.exp(min(loss, _LARGEST_EXPONENT)),
            bits_per_byte=float(total) / math.log(2) / spelled if spelled else None,
            tokens=round(float(tokens)),
            seconds=time.perf_counter() - began,
        )
