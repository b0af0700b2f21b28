"""A second, naive forward pass of every family, in float64, to hold the trainer's against.

Written from the modeling files of transformers and from raw config.json and tensors: it shares no code with the package
that it checks. One sequence and one head at a time; scores are whole matrices.

    x_0 = E[ids] (* sqrt(H) in Gemma)       x += f(attention(norm(x)))       x += f(mlp(norm(x)))
    f: the norm after a branch in gemma2 and gemma3, else nothing
    logits = norm(x_L) head^T, soft-capped where the config says so
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray]

_GEMMAS = ("gemma", "gemma2", "gemma3_text")


@dataclass(frozen=True)
class Output:
    """As transformers returns them."""

    logits: np.ndarray
    """[B, T, V]"""
    hidden_states: np.ndarray
    """[L + 1, B, T, H]: embeddings, the output of each layer but the last, and the last one's after the final norm."""


def forward(config: Mapping[str, Any], tensors: Tensors, ids: np.ndarray, mask: np.ndarray) -> Output:
    """All rows of ids [B, T] under an attention mask [B, T] of zeros and ones."""
    weights = {name: np.asarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}
    rows = [_row(config, weights, row, keep.astype(bool)) for row, keep in zip(ids, mask, strict=True)]
    return Output(np.stack([logits for logits, _ in rows]), np.stack([hidden for _, hidden in rows], axis=1))


def _row(config: Mapping[str, Any], w: Tensors, ids: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    family = config["model_type"]
    embedding = w["model.embed_tokens.weight"]
    x = embedding[ids]
    if family in _GEMMAS:
        x = x * math.sqrt(config["hidden_size"])
    states = [x]
    for layer in range(config["num_hidden_layers"]):
        x = _layer(config, w, layer, x, keep)
        states.append(x)
    states[-1] = _norm(config, states[-1], w["model.norm.weight"])
    tied = config.get("tie_word_embeddings", family in _GEMMAS)
    logits = states[-1] @ (embedding if tied else w["lm_head.weight"]).T
    if cap := config.get("final_logit_softcapping", 30.0 if family == "gemma2" else None):
        logits = cap * np.tanh(logits / cap)
    return logits, np.stack(states)


def _layer(config: Mapping[str, Any], w: Tensors, layer: int, x: np.ndarray, keep: np.ndarray) -> np.ndarray:
    def norm(name: str, y: np.ndarray) -> np.ndarray:
        return _norm(config, y, w[f"model.layers.{layer}.{name}.weight"])

    sandwich = config["model_type"] in ("gemma2", "gemma3_text")
    out = _attention(config, w, layer, norm("input_layernorm", x), keep)
    x = x + (norm("post_attention_layernorm", out) if sandwich else out)
    out = _mlp(config, w, layer, norm("pre_feedforward_layernorm" if sandwich else "post_attention_layernorm", x))
    return x + (norm("post_feedforward_layernorm", out) if sandwich else out)


def _norm(config: Mapping[str, Any], x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    scale = 1.0 + weight if config["model_type"] in _GEMMAS else weight
    return scale * x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + config.get("rms_norm_eps", 1e-6))


def _mlp(config: Mapping[str, Any], w: Tensors, layer: int, x: np.ndarray) -> np.ndarray:
    gate, up, down = (w[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    act: Callable[[np.ndarray], np.ndarray] = _gelu_tanh if config["model_type"] in _GEMMAS else _silu
    return (act(x @ gate.T) * (x @ up.T)) @ down.T


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


def _attention(config: Mapping[str, Any], w: Tensors, layer: int, x: np.ndarray, keep: np.ndarray) -> np.ndarray:
    heads, groups = config["num_attention_heads"], config.get("num_key_value_heads") or config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    where = f"model.layers.{layer}.self_attn"

    def project(name: str, number: int) -> np.ndarray:
        y = x @ w[f"{where}.{name}_proj.weight"].T + w.get(f"{where}.{name}_proj.bias", 0.0)
        return y.reshape(len(x), number, width)

    query, key, value = project("q", heads), project("k", groups), project("v", groups)
    if config["model_type"] in ("gemma3_text", "qwen3"):
        query = _norm(config, query, w[f"{where}.q_norm.weight"])
        key = _norm(config, key, w[f"{where}.k_norm.weight"])
    cos, sin = _rotation(config, layer, width, len(x))
    query, key = _rotate(query, cos, sin), _rotate(key, cos, sin)
    seen = _seen(config, layer, keep)
    out = [
        _head(config, query[:, n], key[:, n * groups // heads], value[:, n * groups // heads], seen, width)
        for n in range(heads)
    ]
    return np.concatenate(out, axis=-1) @ w[f"{where}.o_proj.weight"].T


def _head(
    config: Mapping[str, Any], query: np.ndarray, key: np.ndarray, value: np.ndarray, seen: np.ndarray, width: int
) -> np.ndarray:
    scalar = width
    if config["model_type"] in ("gemma2", "gemma3_text"):
        scalar = config.get("query_pre_attn_scalar", 256)
    scores = query @ key.T / math.sqrt(scalar)
    if config["model_type"] == "gemma2" and (cap := config.get("attn_logit_softcapping", 50.0)):
        scores = cap * np.tanh(scores / cap)
    scores = np.where(seen, scores, -1e30)  # a row that sees nothing becomes a mean over all, as in transformers
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)) @ value


def slides(config: Mapping[str, Any], layer: int) -> bool:
    """Whether a layer has a sliding window."""
    family = config["model_type"]
    if family == "mistral":
        return config.get("sliding_window", 4096) is not None
    if family in ("llama", "gemma"):
        return False
    if family in ("qwen2", "qwen3") and not config.get("use_sliding_window", False):
        return False
    if "layer_types" in config:
        return bool(config["layer_types"][layer] == "sliding_attention")
    if family in ("qwen2", "qwen3"):
        return layer >= config.get("max_window_layers", 28)
    pattern = 2 if family == "gemma2" else config.get("sliding_window_pattern", 6)
    return (layer + 1) % pattern != 0


def _seen(config: Mapping[str, Any], layer: int, keep: np.ndarray) -> np.ndarray:
    """bool [T, T]: whether query i sees key j."""
    i, j = np.arange(len(keep))[:, None], np.arange(len(keep))[None, :]
    seen = (j <= i) & keep[None, :]
    if slides(config, layer):
        seen &= i - j < config.get("sliding_window", 4096)
    return seen


def _rotation(config: Mapping[str, Any], layer: int, width: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    theta, scaling = _rope(config, slides(config, layer))
    frequencies = theta ** (-np.arange(0, width, 2) / width)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        frequencies = frequencies / scaling["factor"]
    elif kind == "llama3":
        frequencies = np.array([_llama3(f, scaling) for f in frequencies])
    angles = np.arange(length)[:, None] * np.concatenate([frequencies, frequencies])
    return np.cos(angles)[:, None], np.sin(angles)[:, None]


def _rope(config: Mapping[str, Any], sliding: bool) -> tuple[float, Mapping[str, Any]]:
    """Base and scaling of a layer, from the keys of either version of transformers."""
    new = config.get("rope_parameters")
    if config["model_type"] == "gemma3_text":
        if new:
            part = new["sliding_attention" if sliding else "full_attention"]
            return part["rope_theta"], part
        if sliding:
            return config.get("rope_local_base_freq", 1e4), {}
        return config.get("rope_theta", 1e6), config.get("rope_scaling") or {}
    if new:
        return new["rope_theta"], new
    return config.get("rope_theta", 1e4), config.get("rope_scaling") or {}


def _llama3(frequency: float, scaling: Mapping[str, Any]) -> float:
    wave, original = 2 * math.pi / frequency, scaling["original_max_position_embeddings"]
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    if wave < original / high:
        return frequency
    if wave > original / low:
        return float(frequency / factor)
    smooth = (original / wave - low) / (high - low)
    return float((1 - smooth) * frequency / factor + smooth * frequency)


def _rotate(x: np.ndarray, cos: np.ndarray, sin: np.ndarray) -> np.ndarray:
    half = x.shape[-1] // 2
    return x * cos + np.concatenate([-x[..., half:], x[..., :half]], axis=-1) * sin
