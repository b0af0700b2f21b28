"""Ends a run whose evaluation loss no longer falls."""

from collections.abc import Mapping
from typing import Any

from vishwamai.contract.config import EarlyStoppingSection


class EarlyStopping:
    """Counts evaluations without improvement; without settings it never ends a run."""

    def __init__(self, settings: EarlyStoppingSection | None, saved: dict[str, Any] | None = None) -> None:
        """`saved` is what `state` gave in an earlier life."""
        self._settings = settings
        self._best: float | None = (saved or {}).get("best")
        self._misses: int = (saved or {}).get("misses", 0)

    def judge(self, losses: Mapping[str, float]) -> None:
        """Takes one evaluation: the loss of each set in nats per token, the main one first."""
        watched = self._settings.eval_set if self._settings else None
        loss = next(iter(losses.values())) if watched is None else losses[watched]
        min_delta = self._settings.min_delta if self._settings else 0.0
        if self._best is None or loss < self._best - min_delta:
            self._best, self._misses = loss, 0
        else:
            self._misses += 1

    @property
    def reached(self) -> bool:
        """True when the run is to end."""
        return self._settings is not None and self._misses >= self._settings.patience

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self._best, "misses": self._misses}
