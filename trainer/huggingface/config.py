"""config.json of transformers, 4 or 5, to the section model."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from trainer.errors import UserError
from trainer.huggingface.rope import read_rope
from trainer.huggingface.settings import Settings
from vishwamai.contract.config import ModelSection
from vishwamai.contract.config.model import LayerKind
from vishwamai.contract.families import FAMILIES

KEY_OF_FIELD: Mapping[str, str] = {
    "vocab_size": "vocab_size",
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_dim": "intermediate_size",
    "max_seq_len": "max_position_embeddings",
    "norm_epsilon": "rms_norm_eps",
    "attention_dropout_rate": "attention_dropout",
    "tie_embeddings": "tie_word_embeddings",
    "attention_softcap": "attn_logit_softcapping",
    "logit_softcap": "final_logit_softcapping",
    "sliding_window": "sliding_window",
    "rope_theta": "rope_theta",
    "rope_local_theta": "rope_local_base_freq",
}
_KIND_OF_LAYER_TYPE: Mapping[str, LayerKind] = {"full_attention": "full", "sliding_attention": "sliding"}


def read_config(document: Mapping[str, Any], max_seq_len: int | None = None) -> ModelSection:
    """The model that a parsed config.json describes, with every field that matters set.

    `max_seq_len` is the training window; without it the checkpoint's max_position_embeddings is taken.
    Raises UserError naming every key that is unsupported, contradictory or out of bounds.
    """
    settings = Settings(document)
    _refuse_what_we_lack(settings)
    fields = {
        **FAMILIES[settings.family].fixed,
        **_sizes(settings),
        **_numbers(settings),
        **_attention(settings),
        **read_rope(settings),
        "family": settings.family,
        "dropout_rate": 0.0,
    }
    settings.raise_problems()
    if max_seq_len is not None:
        fields["max_seq_len"] = max_seq_len
    return _section(fields)


def _section(fields: dict[str, Any]) -> ModelSection:
    try:
        model = ModelSection.model_validate(fields)
    except ValidationError as error:
        found = [(str(one["loc"][-1]), one["input"], one["msg"]) for one in error.errors()]
        told = [f"{KEY_OF_FIELD.get(field, field)} is {value!r}: {message}" for field, value, message in found]
        raise UserError("config.json cannot be used: " + "; ".join(told)) from error
    if model.num_heads % model.kv_heads:
        raise UserError(
            f"config.json cannot be used: num_key_value_heads is {model.kv_heads}, which does not divide "
            f"num_attention_heads {model.num_heads}"
        )
    return model


def _refuse_what_we_lack(settings: Settings) -> None:
    if settings.architecture.may_have_bias and settings.get("attention_bias"):
        settings.problem("attention_bias: a bias on attention's output projection is not supported")
    if settings.family == "llama" and settings.get("mlp_bias"):
        settings.problem("mlp_bias: biases in the feed-forward are not supported")
    if settings.get("use_bidirectional_attention"):
        settings.problem("use_bidirectional_attention: only causal attention is supported")
    if settings.get("quantization_config"):
        settings.problem("quantization_config: quantized weights are not supported")
    architecture = settings.architecture
    activation = settings.get(architecture.activation_key)
    if activation not in architecture.activations:
        settings.problem(
            f"{architecture.activation_key} is {activation!r}, and {settings.family} is supported with "
            f"{' or '.join(architecture.activations)}"
        )


def _sizes(settings: Settings) -> dict[str, Any]:
    heads, hidden = settings.integer("num_attention_heads"), settings.integer("hidden_size")
    kv_heads, head_dim = settings.integer("num_key_value_heads"), settings.integer("head_dim")
    if head_dim is None and heads and hidden:
        head_dim, rest = divmod(hidden, heads)
        if rest:
            settings.problem(f"hidden_size {hidden} is no multiple of num_attention_heads {heads}, and no head_dim")
    return {
        "vocab_size": settings.integer("vocab_size"),
        "hidden_dim": hidden,
        "num_layers": settings.integer("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": heads if kv_heads is None else kv_heads,
        "head_dim": head_dim,
        "mlp_dim": settings.integer("intermediate_size"),
        "max_seq_len": settings.integer("max_position_embeddings"),
    }


def _numbers(settings: Settings) -> dict[str, Any]:
    # gemma3 carries attn_logit_softcapping, and transformers does not apply it.
    capped = settings.family == "gemma2"
    return {
        "norm_epsilon": settings.number("rms_norm_eps"),
        "attention_dropout_rate": settings.number("attention_dropout") or 0.0,
        "tie_embeddings": settings.get("tie_word_embeddings"),
        "attention_softcap": settings.number("attn_logit_softcapping") if capped else None,
        "logit_softcap": settings.number("final_logit_softcapping"),
        "attention_scale": _scale(settings),
    }


def _scale(settings: Settings) -> float | None:
    """None where it is head_dim ** -0.5."""
    scalar = settings.number("query_pre_attn_scalar") if settings.family in ("gemma2", "gemma3") else None
    if scalar is None or scalar == settings.get("head_dim"):
        return None
    if scalar <= 0:
        settings.problem(f"query_pre_attn_scalar is {scalar:g}, and must be positive")
        return None
    return float(scalar**-0.5)


def _attention(settings: Settings) -> dict[str, Any]:
    """Fields sliding_window and layer_pattern."""
    window, layers = settings.integer("sliding_window"), settings.integer("num_hidden_layers") or 0
    if settings.family in ("gemma", "llama"):  # they ignore the keys about windows
        return {"sliding_window": None, "layer_pattern": None}
    if settings.family == "mistral":  # every layer or none
        return {"sliding_window": window, "layer_pattern": None}
    if settings.family in ("qwen2", "qwen3") and not settings.get("use_sliding_window"):
        window = None
    kinds = _listed_kinds(settings, layers) or _usual_kinds(settings, layers, window)
    if "sliding" not in kinds:
        return {"sliding_window": None, "layer_pattern": ["full"]}
    if window is None:
        settings.problem("layers with sliding attention need a sliding_window")
    return {"sliding_window": window, "layer_pattern": _period(kinds)}


def _listed_kinds(settings: Settings, layers: int) -> list[LayerKind]:
    """From layer_types; [] when it is absent."""
    types = settings.get("layer_types")
    if types is None:
        return []
    if not isinstance(types, list) or len(types) != layers:
        settings.problem(f"layer_types must be a list of num_hidden_layers {layers} entries")
        return []
    unknown = sorted({str(one) for one in types if one not in _KIND_OF_LAYER_TYPE})
    if unknown:
        settings.problem(f"layer_types has {', '.join(unknown)}; supported are {', '.join(_KIND_OF_LAYER_TYPE)}")
        return []
    return [_KIND_OF_LAYER_TYPE[one] for one in types]


def _usual_kinds(settings: Settings, layers: int, window: int | None) -> list[LayerKind]:
    """What transformers makes of a config without layer_types."""
    if settings.family in ("qwen2", "qwen3"):
        full = layers if window is None else settings.integer("max_window_layers") or 0
        return ["full" if i < full else "sliding" for i in range(layers)]
    every = 2 if settings.family == "gemma2" else settings.integer("sliding_window_pattern") or 0
    if every < 1:
        settings.problem("sliding_window_pattern must be at least 1")
        return ["full"]
    return ["sliding" if (i + 1) % every else "full" for i in range(layers)]


def _period(kinds: Sequence[LayerKind]) -> list[LayerKind]:
    """The shortest pattern that, repeated, gives `kinds`."""
    for length in range(1, len(kinds)):
        if all(kind == kinds[i % length] for i, kind in enumerate(kinds)):
            return list(kinds[:length])
    return list(kinds)
