"""The decoder's shape."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Section

Activation = Literal["gelu", "gelu_exact", "geglu", "swiglu"]


class ModelSection(Section):
    """The decoder's shape: pre-norm transformer blocks with RMSNorm and rotary positions."""

    vocab_size: int = Field(131072, ge=2, le=4_194_304, description="Size of the token vocabulary.")
    hidden_dim: int = Field(768, ge=1, le=131_072, description="Width of the residual stream.")
    num_layers: int = Field(24, ge=1, le=1024, description="Number of transformer blocks.")
    num_heads: int = Field(12, ge=1, le=1024, description="Number of attention (query) heads.")
    num_kv_heads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Number of key/value heads; must divide num_heads. Absent: as many as num_heads.",
    )
    head_dim: int = Field(64, ge=2, le=1024, multiple_of=2, description="Width of one attention head.")
    mlp_dim: int = Field(3072, ge=1, le=1_048_576, description="Width of the feed-forward layer.")
    max_seq_len: int = Field(2048, ge=2, le=4_194_304, description="Tokens in one training window.")
    dropout_rate: float = Field(0.1, ge=0.0, lt=1.0, description="Dropout probability on the residual branches.")
    activation: Activation = Field(
        "gelu", description="Feed-forward activation: gelu (tanh form), gelu_exact (erf), or gated geglu, swiglu."
    )
    tie_embeddings: bool = Field(True, description="Use the embedding table as the output head.")
    rope_theta: float = Field(10_000.0, gt=0.0, description="Base of the rotary position frequencies.")
    norm_epsilon: float = Field(1e-6, gt=0.0, lt=0.1, description="Added to the mean square inside RMSNorm.")

    @property
    def kv_heads(self) -> int:
        """Key/value heads after the default."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads
