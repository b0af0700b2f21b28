"""What each published architecture fixes, and what it starts from.

`fixed` is what makes the family: another value is a contradiction. `usual` is what its checkpoints mostly have: the
default of a field that the config leaves open. The values are those of the configuration classes of Hugging Face
transformers; sizes are left to the config.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vishwamai.contract.config.model import Family

_PLAIN: dict[str, Any] = {
    "embedding_scale": False,
    "norm_offset": False,
    "post_norms": False,
    "qk_norm": False,
    "qkv_bias": False,
}
_GEMMA: dict[str, Any] = {**_PLAIN, "activation": "geglu", "embedding_scale": True, "norm_offset": True}
_LLAMA: dict[str, Any] = {**_PLAIN, "activation": "swiglu"}

_GEMMA_USUAL: dict[str, Any] = {"tie_embeddings": True, "norm_epsilon": 1e-6, "dropout_rate": 0.0}
_LLAMA_USUAL: dict[str, Any] = {"tie_embeddings": False, "norm_epsilon": 1e-5, "dropout_rate": 0.0}
_QWEN_USUAL: dict[str, Any] = {**_LLAMA_USUAL, "norm_epsilon": 1e-6, "rope_theta": 1e6}


@dataclass(frozen=True, slots=True)
class FamilyFacts:
    """One architecture, as values of fields of the section model."""

    fixed: Mapping[str, Any]
    usual: Mapping[str, Any]


FAMILIES: Mapping[Family, FamilyFacts] = {
    "vishwamai": FamilyFacts({}, {}),
    "gemma": FamilyFacts(_GEMMA, _GEMMA_USUAL),
    "gemma2": FamilyFacts(
        {**_GEMMA, "post_norms": True},
        {
            **_GEMMA_USUAL,
            "attention_softcap": 50.0,
            "logit_softcap": 30.0,
            "sliding_window": 4096,
            "layer_pattern": ["sliding", "full"],
        },
    ),
    "gemma3": FamilyFacts(
        {**_GEMMA, "post_norms": True, "qk_norm": True},
        {
            **_GEMMA_USUAL,
            "rope_theta": 1e6,
            "rope_local_theta": 1e4,
            "sliding_window": 4096,
            "layer_pattern": ["sliding"] * 5 + ["full"],
        },
    ),
    "llama": FamilyFacts(_LLAMA, _LLAMA_USUAL),
    "mistral": FamilyFacts(_LLAMA, _LLAMA_USUAL),
    "qwen2": FamilyFacts({**_LLAMA, "qkv_bias": True}, _QWEN_USUAL),
    "qwen3": FamilyFacts({**_LLAMA, "qk_norm": True}, _QWEN_USUAL),
}
