"""Tiny random Hugging Face checkpoints: what transformers would have saved, made without it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-3,
    "torch_dtype": "float32",
}
_LINEAR = {"rope_type": "linear", "factor": 4.0}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_SILU = {**SHAPE, "hidden_act": "silu"}
_TANH = {**SHAPE, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 24, "head_dim": 16}
_QWEN_WINDOWS = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
_GEMMA3 = {**_TANH, "model_type": "gemma3_text", "sliding_window": 5, "rope_theta": 1e6, "rope_local_base_freq": 100.0}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama_linear": {**_SILU, "model_type": "llama", "rope_theta": 1e4, "rope_scaling": _LINEAR},
    "llama_old_key": {**_SILU, "model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2.0}},
    "llama32": {
        **_SILU,
        "model_type": "llama",
        "head_dim": 16,
        "tie_word_embeddings": True,
        "rope_theta": 500000.0,
        "rope_scaling": _LLAMA3,
    },
    "mistral": {**_SILU, "model_type": "mistral", "sliding_window": None, "head_dim": 12},
    "mistral_windows": {**_SILU, "model_type": "mistral", "sliding_window": 5, "rope_theta": 1e4},
    "qwen2_windows": {**_SILU, "model_type": "qwen2", "rope_theta": 1e6, **_QWEN_WINDOWS},
    "qwen2_no_windows": {**_SILU, "model_type": "qwen2", "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {**_SILU, "model_type": "qwen3", "head_dim": 16, "rope_theta": 1e6},
    "qwen3_windows": {**_SILU, "model_type": "qwen3", "head_dim": 16, **_QWEN_WINDOWS, "tie_word_embeddings": True},
    "gemma": {**SHAPE, "model_type": "gemma", "head_dim": 16, "num_key_value_heads": 1, "hidden_act": "gelu"},
    "gemma2": {**_TANH, "model_type": "gemma2", "sliding_window": 5, "attn_logit_softcapping": 1.5},
    "gemma2_no_caps": {
        **_TANH,
        "model_type": "gemma2",
        "sliding_window": 5,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    "gemma3": {**_GEMMA3, "num_hidden_layers": 7},
    "gemma3_pattern": {**_GEMMA3, "sliding_window_pattern": 3, "rope_scaling": _LINEAR},
    "gemma3_capped": {**_GEMMA3, "sliding_window_pattern": 2, "final_logit_softcapping": 2.0},
    "gemma3_new_keys": {
        **_TANH,
        "model_type": "gemma3_text",
        "sliding_window": 7,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e5, **_LINEAR},
            "sliding_attention": {"rope_theta": 50.0, "rope_type": "default"},
        },
    },
    "qwen2_new_keys": {
        **_SILU,
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "rope_parameters": {"rope_theta": 1e5, **_LLAMA3},
    },
}
"""config.json of each, in both styles; windows are shorter than the texts of the tests."""


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights under transformers' names, large enough that a wrong detail shows."""
    rng = np.random.default_rng(seed)
    family, H = config["model_type"], config["hidden_size"]
    gemma = family.startswith("gemma")

    def linear(rows: int, columns: int) -> np.ndarray:
        return rng.normal(0, 1.5 * columns**-0.5, (rows, columns)).astype(np.float32)

    def norm(size: int) -> np.ndarray:
        return rng.normal(0 if gemma else 1, 0.3, size).astype(np.float32)

    tensors = {"model.embed_tokens.weight": rng.normal(0, 0.3, (config["vocab_size"], H)).astype(np.float32)}
    for layer in range(config["num_hidden_layers"]):
        parts = _attention(config, linear, norm, rng) | _rest(config, linear, norm)
        tensors |= {f"model.layers.{layer}.{name}": part for name, part in parts.items()}
    tensors["model.norm.weight"] = norm(H)
    if not config.get("tie_word_embeddings", gemma):
        tensors["lm_head.weight"] = linear(config["vocab_size"], H)
    return tensors


def _attention(config: Mapping[str, Any], linear: Any, norm: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    H, heads, groups = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim", H // heads)
    sizes = {"q": heads * width, "k": groups * width, "v": groups * width}
    parts = {f"self_attn.{name}_proj.weight": linear(size, H) for name, size in sizes.items()}
    parts["self_attn.o_proj.weight"] = linear(H, heads * width)
    if config["model_type"] == "qwen2":
        biases = {name: rng.normal(0, 0.5, size).astype(np.float32) for name, size in sizes.items()}
        parts |= {f"self_attn.{name}_proj.bias": bias for name, bias in biases.items()}
    if config["model_type"] in ("qwen3", "gemma3_text"):
        parts |= {f"self_attn.{name}_norm.weight": norm(width) for name in "qk"}
    return parts


def _rest(config: Mapping[str, Any], linear: Any, norm: Any) -> dict[str, np.ndarray]:
    H, M = config["hidden_size"], config["intermediate_size"]
    norms = ["input_layernorm", "post_attention_layernorm"]
    if config["model_type"] in ("gemma2", "gemma3_text"):
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return {
        "mlp.gate_proj.weight": linear(M, H),
        "mlp.up_proj.weight": linear(M, H),
        "mlp.down_proj.weight": linear(H, M),
        **{f"{name}.weight": norm(H) for name in norms},
    }


def write_checkpoint(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """A folder with config.json and one file of weights; gives the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_text(config: Mapping[str, Any], *, seed: int = 1, length: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Ids [3, T] and a mask of the same shape: a whole row, one padded on the right, one on the left."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, config["vocab_size"], (3, length))
    mask = np.ones_like(ids)
    mask[1, -5:] = 0
    mask[2, :7] = 0
    return np.where(mask, ids, 0), mask
