"""What attention computes, apart from how: which tokens see which, and what happens to the scores."""

from dataclasses import dataclass

from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import LayerKind


@dataclass(frozen=True, slots=True)
class Pattern:
    """Causal attention within documents, for the heads of one device.

    Query i sees key j when both lie in the same document, j <= i, and i - j < window. Scores
    are s = scale * q.k, and with a soft-cap c they become c tanh(s / c). Query head n uses key head
    n // (heads // kv_heads).
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    """Keys that a query sees at most, itself among them; None: all before it."""
    softcap: float | None = None
    dropout_rate: float = 0.0
    """Share of attention weights set to zero in training."""

    @classmethod
    def of(cls, model: ModelSection, kind: LayerKind, parts: int = 1) -> "Pattern":
        """That of one kind of a model's layers, whose heads are split over `parts` devices."""
        return cls(
            heads=model.num_heads // parts,
            kv_heads=model.kv_heads // parts,
            head_dim=model.head_dim,
            scale=model.score_scale,
            window=model.sliding_window if kind == "sliding" else None,
            softcap=model.attention_softcap,
            dropout_rate=model.attention_dropout_rate,
        )

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads
