"""The decoder's shape."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Section

Family = Literal["vishwamai", "gemma", "gemma2", "gemma3", "llama", "mistral", "qwen2", "qwen3"]
Activation = Literal["gelu", "gelu_exact", "geglu", "geglu_exact", "swiglu"]
LayerKind = Literal["full", "sliding"]

GATED: frozenset[str] = frozenset({"geglu", "geglu_exact", "swiglu"})
"""Activations whose feed-forward has a gate: three projections, not two."""


class RopeScalingSection(Section):
    """Stretches rotary positions over a longer window than the model was first trained on."""

    kind: Literal["linear", "llama3"] = Field(
        "llama3", description="linear divides every frequency; llama3 leaves the fast ones alone."
    )
    factor: float = Field(8.0, ge=1.0, le=1e6, description="How many times longer the window becomes.")
    low_freq_factor: float = Field(
        1.0, ge=1e-6, le=1e6, description="llama3: waves longer than original_max_seq_len / this are stretched whole."
    )
    high_freq_factor: float = Field(
        4.0, ge=1e-5, le=1e7, description="llama3: waves shorter than original_max_seq_len / this are left alone."
    )
    original_max_seq_len: int = Field(8192, ge=1, le=4_194_304, description="llama3: the window before stretching.")


class ModelSection(Section):
    """The decoder's shape: pre-norm transformer blocks with RMSNorm and rotary positions."""

    family: Family = Field(
        "vishwamai",
        description="The published architecture to follow; it sets what the fields below leave open. "
        "vishwamai is the guide's and leaves every field free.",
    )
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
    attention_dropout_rate: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout probability of attention weights.")
    activation: Activation = Field(
        "gelu",
        description="Feed-forward activation: gelu (tanh form), gelu_exact (erf), or gated: geglu, geglu_exact, "
        "swiglu.",
    )
    tie_embeddings: bool = Field(True, description="Use the embedding table as the output head.")
    embedding_scale: bool = Field(False, description="Multiply embeddings by sqrt(hidden_dim).")
    norm_epsilon: float = Field(1e-6, gt=0.0, lt=0.1, description="Added to the mean square inside RMSNorm.")
    norm_offset: bool = Field(False, description="RMSNorm multiplies by 1 + weight instead of weight.")
    post_norms: bool = Field(False, description="Also normalize what attention and feed-forward give, before adding.")
    qk_norm: bool = Field(False, description="RMSNorm on every query and key head, before rotation.")
    qkv_bias: bool = Field(False, description="Biases on the query, key and value projections.")
    attention_scale: float | None = Field(
        None, gt=0.0, description="Factor of the attention scores. Absent: head_dim ** -0.5."
    )
    attention_softcap: float | None = Field(
        None, gt=0.0, description="Attention scores s become c tanh(s / c). Absent: no cap."
    )
    logit_softcap: float | None = Field(None, gt=0.0, description="The same for the output logits. Absent: no cap.")
    rope_theta: float = Field(10_000.0, gt=0.0, description="Base of the rotary position frequencies.")
    rope_local_theta: float | None = Field(
        None, gt=0.0, description="Base on sliding layers, which are then never scaled. Absent: as on all layers."
    )
    rope_scaling: RopeScalingSection | None = Field(None, description="Present: rotary positions are stretched.")
    sliding_window: int | None = Field(
        None, ge=1, le=4_194_304, description="Keys that a token sees on sliding layers, itself among them."
    )
    layer_pattern: list[LayerKind] | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="Kinds of layers, full or sliding, repeated over the depth. Absent: all sliding when there is a "
        "sliding_window, else all full.",
    )

    @property
    def kv_heads(self) -> int:
        """Key/value heads after the default."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def gated(self) -> bool:
        """Whether the feed-forward has a gate."""
        return self.activation in GATED

    @property
    def score_scale(self) -> float:
        """Factor of the attention scores after the default."""
        return self.head_dim**-0.5 if self.attention_scale is None else self.attention_scale

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer, first to last."""
        pattern = self.layer_pattern or (["full"] if self.sliding_window is None else ["sliding"])
        return tuple(pattern[i % len(pattern)] for i in range(self.num_layers))
