"""What Hugging Face transformers calls each family, and what it assumes where a config.json is silent.

The defaults are those of the configuration classes of transformers 4.57 and 5.23, which agree on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vishwamai.contract.config.model import Family

_EVERY: dict[str, Any] = {
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "attention_dropout": 0.0,
    "tie_word_embeddings": False,
}
_GEMMA: dict[str, Any] = {
    **_EVERY,
    "vocab_size": 256000,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_GEMMA2: dict[str, Any] = {
    **_GEMMA,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
_LLAMA: dict[str, Any] = {
    **_EVERY,
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
}
_QWEN: dict[str, Any] = {
    **_LLAMA,
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One family in transformers."""

    class_name: str
    model_type: str
    defaults: Mapping[str, Any]
    """Keys of config.json and what their absence means."""
    activation_key: str = "hidden_act"
    activations: tuple[str, ...] = ("silu", "swish")
    """Values of that key which mean the family's activation; the first is written."""
    may_have_bias: bool = True
    """attention_bias is looked at, and would put biases on all four projections."""
    square_heads: bool = False
    """transformers 5 refuses a hidden size that is no multiple of the number of heads."""


_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast")

ARCHITECTURES: Mapping[Family, Architecture] = {
    "gemma": Architecture(
        "GemmaForCausalLM",
        "gemma",
        {
            **_GEMMA,
            "hidden_size": 3072,
            "intermediate_size": 24576,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "hidden_act": "gelu_pytorch_tanh",
        },
        # Google's own configs say gelu and mean its tanh form.
        activations=(*_TANH, "gelu"),
    ),
    "gemma2": Architecture(
        "Gemma2ForCausalLM",
        "gemma2",
        _GEMMA2,
        activation_key="hidden_activation",
        activations=_TANH,
        square_heads=True,
    ),
    "gemma3": Architecture(
        "Gemma3ForCausalLM",
        "gemma3_text",
        {
            **_GEMMA2,
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "sliding_window_pattern": 6,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
        activation_key="hidden_activation",
        activations=_TANH,
        square_heads=True,
    ),
    "llama": Architecture(
        "LlamaForCausalLM",
        "llama",
        {**_LLAMA, "intermediate_size": 11008, "max_position_embeddings": 2048},
        square_heads=True,
    ),
    "mistral": Architecture(
        "MistralForCausalLM",
        "mistral",
        {
            **_LLAMA,
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
        may_have_bias=False,
    ),
    "qwen2": Architecture("Qwen2ForCausalLM", "qwen2", _QWEN, may_have_bias=False),
    "qwen3": Architecture("Qwen3ForCausalLM", "qwen3", {**_QWEN, "head_dim": 128}),
}

FAMILY_OF: Mapping[str, Family] = {
    **{architecture.model_type: family for family, architecture in ARCHITECTURES.items()},
    "gemma3": "gemma3",
}
"""By model_type. gemma3 is the model with images, whose text part is read."""
