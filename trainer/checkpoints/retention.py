"""Which checkpoints are given up: pure functions of their steps and evaluation losses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vishwamai.contract.config import CheckpointSection


def surplus(committed: Sequence[int], settings: CheckpointSection, losses: Mapping[int, float]) -> list[int]:
    """Steps that retention gives up, ascending.

    Kept are the newest `keep_last`, the multiples of `keep_every`, and the `keep_best` of lowest loss.

    Args:
      committed: steps, ascending.
      settings: how many of which.
      losses: evaluation losses of those that have one.
    """
    kept = set(committed[-settings.keep_last :])
    if settings.keep_every is not None:
        kept |= {step for step in committed if step % settings.keep_every == 0}
    if settings.keep_best is not None:
        # Of equals the later one: it has seen more.
        ranked = sorted((losses[step], -step) for step in committed if math.isfinite(losses.get(step, math.nan)))
        kept |= {-newest for _, newest in ranked[: settings.keep_best]}
    return [step for step in committed if step not in kept]


def loss_at(step: int, extra: Mapping[str, Any], best_of: str | None) -> float | None:
    """The evaluation loss of the weights of `step` in what a checkpoint keeps beside its state.

    `best_of` names the evaluation set; None takes the first. None when these very weights were not evaluated on it.
    """
    evaluation = extra.get("metrics", {}).get("evaluation") or {}
    if evaluation.get("step") != step:
        return None
    losses: dict[str, float] = evaluation["losses"]
    return losses.get(best_of) if best_of is not None else next(iter(losses.values()), None)
