"""Memory and speed: sections `memory` and `optimization`."""

from typing import Literal

from pydantic import Field

from vishwamai.contract.base import Section

LowPrecisionSkip = Literal["embedding", "head", "norms", "attention", "mlp"]


class MemorySection(Section):
    """What to trade for memory."""

    gradient_checkpointing: bool = Field(True, description="Recompute activations in the backward pass.")
    remat_policy: Literal["auto", "none", "dots", "attention", "offload", "full"] = Field(
        "auto",
        description="What gradient_checkpointing keeps of a layer beside its input: results of matrix products "
        "(dots), of attention, the same with inputs in host memory (offload), nothing (full), or what fits (auto).",
    )
    attention_memory_efficient: bool = Field(
        True, description="Attention whose memory grows linearly with the sequence."
    )
    kv_cache_fp8: bool = Field(True, description="Keep generation's keys and values in FP8.")
    use_memory_efficient_attention: bool = Field(
        True, description="The guide's second name for attention_memory_efficient; either one asks for it."
    )


class OptimizationSection(Section):
    """Precision and performance."""

    use_fp8: bool = Field(True, description="Matrix products in FP8 where the chip gains from it.")
    low_precision: Literal["auto", "fp8", "int8", "none"] = Field(
        "auto",
        description="What projections multiply: fp8 on every chip; int8 where it is faster than bfloat16; none; "
        "auto: fp8 where use_fp8 asks for it and the chip has units for it.",
    )
    low_precision_skip: list[LowPrecisionSkip] = Field(
        ["embedding", "head", "norms"],
        max_length=5,
        description="Parts that stay in the compute type; attention or mlp may join embedding, head and norms, "
        "which always do.",
    )
    use_pjit: bool = Field(True, description="Compile one program for the whole mesh.")
    block_size: int = Field(128, ge=8, le=65_536, description="Keys per attention block.")
    attention: Literal["auto", "dense", "blockwise", "flash", "splash", "cudnn"] = Field(
        "auto", description="How attention is computed; auto takes the fastest that the hardware has."
    )
    scan_layers: bool = Field(True, description="Compile one layer and loop over it; false compiles every layer.")
    weight_gather: Literal["auto", "step", "layer"] = Field(
        "auto", description="Gather split weights once a step, or layer by layer; auto: once if memory allows."
    )
    use_dynamic_scale: bool = Field(True, description="Scale the loss so that small gradients survive low precision.")
    mixed_precision: bool = Field(True, description="Low-precision compute over float32 master weights.")
    shard_weights: bool = Field(True, description="Split weights and optimizer state over the data-parallel devices.")
