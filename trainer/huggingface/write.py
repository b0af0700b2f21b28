"""The section model to config.json, and what keeps a model from being one that transformers knows."""

from collections.abc import Iterator, Mapping
from typing import Any

from trainer.errors import UserError
from trainer.huggingface.architectures import ARCHITECTURES
from trainer.huggingface.config import KEY_OF_FIELD
from trainer.huggingface.rope import write_rope
from vishwamai.contract.config import ModelSection
from vishwamai.contract.families import FAMILIES

_LAYER_TYPE = {"full": "full_attention", "sliding": "sliding_attention"}
_TRANSFORMERS = "5.23.0"
"""The version whose keys these are; transformers takes it as the writer's."""


def exportable(model: ModelSection) -> ModelSection:
    """The model under the family that it is written as: its own, or llama for the guide's.

    Raises UserError naming every field that transformers has no key for.
    """
    named = model if model.family != "vishwamai" else model.model_copy(update={"family": "llama"})
    if obstacles := list(_obstacles(named)):
        hint = " (a model of family vishwamai is exported as llama)" if model.family == "vishwamai" else ""
        raise UserError(f"transformers' {named.family} cannot express this model{hint}: " + "; ".join(obstacles))
    return named


def _obstacles(model: ModelSection) -> Iterator[str]:
    family = model.family
    for name, wanted in FAMILIES[family].fixed.items():
        value = getattr(model, name)
        if value != wanted:
            yield f"model.{name} is {_shown(value)}, and it has {_shown(wanted)}"
    gemmas = family in ("gemma2", "gemma3")
    if model.attention_softcap is not None and family != "gemma2":
        yield f"model.attention_softcap is {model.attention_softcap:g}, and it has none"
    if model.logit_softcap is not None and not gemmas:
        yield f"model.logit_softcap is {model.logit_softcap:g}, and it has none"
    if gemmas:
        if _scalar(model) is None:
            yield f"model.attention_scale is {model.score_scale:g}, and it has n ** -0.5 for a whole number n"
    elif not _close(model.score_scale, model.head_dim**-0.5):
        yield f"model.attention_scale is {model.score_scale:g}, and it has head_dim ** -0.5"
    yield from _obstacles_in_layers(model)
    if ARCHITECTURES[family].square_heads and model.hidden_dim % model.num_heads:
        yield f"model.hidden_dim {model.hidden_dim} is no multiple of model.num_heads {model.num_heads}"


def _obstacles_in_layers(model: ModelSection) -> Iterator[str]:
    kinds = set(model.layer_kinds)
    if model.family in ("llama", "gemma") and "sliding" in kinds:
        yield f"model.sliding_window is {model.sliding_window}, and it has none"
    if model.family == "mistral" and len(kinds) > 1:
        yield "model.layer_pattern has layers of both kinds, and it has one"
    if model.family == "gemma3":
        if model.rope_local_theta is None and model.rope_scaling is not None and "sliding" in kinds:
            yield "model.rope_scaling stretches sliding layers when model.rope_local_theta is absent, and it does not"
    elif model.rope_local_theta is not None and "sliding" in kinds and _local_differs(model):
        yield f"model.rope_local_theta is {model.rope_local_theta:g}, and it rotates all layers alike"


def _local_differs(model: ModelSection) -> bool:
    return model.rope_local_theta != model.rope_theta or model.rope_scaling is not None


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _close(a: float, b: float) -> bool:
    # Two ways to round the same root may differ in the last digits of float64.
    return abs(a - b) <= 1e-12 * abs(b)


def _scalar(model: ModelSection) -> int | None:
    """query_pre_attn_scalar, which transformers wants whole; None when there is no such number."""
    scalar = round(model.score_scale**-2)
    return scalar if scalar and _close(scalar**-0.5, model.score_scale) else None


def write_config(model: ModelSection, dtype: str, token_ids: Mapping[str, int | None]) -> dict[str, Any]:
    """config.json as transformers 5 writes it, and beside its rotary keys those that transformers 4 reads.

    `model` is what `exportable` gave; `dtype` the format of the weights; `token_ids` has eos_token_id and the like.
    """
    architecture = ARCHITECTURES[model.family]
    fields = {KEY_OF_FIELD[name]: getattr(model, name) for name in _WRITTEN}
    if model.family == "qwen2" and model.hidden_dim == model.num_heads * model.head_dim:
        del fields["head_dim"]  # transformers has no such key there, and takes it when it is given
    tokens = {name: token_ids.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return {
        "architectures": [architecture.class_name],
        "dtype": dtype,
        architecture.activation_key: architecture.activations[0],
        "initializer_range": 0.02,
        "model_type": architecture.model_type,
        "num_key_value_heads": model.kv_heads,
        "transformers_version": _TRANSFORMERS,
        "use_cache": True,
        **fields,
        **tokens,
        **write_rope(model),
        **_of_family(model),
    }


_WRITTEN = (
    "vocab_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "head_dim",
    "mlp_dim",
    "max_seq_len",
    "norm_epsilon",
    "attention_dropout_rate",
    "tie_embeddings",
)


def _of_family(model: ModelSection) -> dict[str, Any]:
    """The keys that only some families have."""
    layer_types = [_LAYER_TYPE[kind] for kind in model.layer_kinds]
    match model.family:
        case "llama":
            return {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
        case "gemma":
            return {"attention_bias": False, "use_bidirectional_attention": None}
        case "mistral":
            return {"sliding_window": model.sliding_window if "sliding" in model.layer_kinds else None}
        case "qwen2" | "qwen3":
            slides = "sliding" in model.layer_kinds
            full_first = list(model.layer_kinds).index("sliding") if slides else model.num_layers
            keys = {
                "layer_types": layer_types,
                "max_window_layers": full_first,
                "sliding_window": model.sliding_window if slides else None,
                "use_sliding_window": slides,
            }
            return keys if model.family == "qwen2" else {"attention_bias": False, **keys}
        case _:  # gemma2, gemma3
            return {
                "attention_bias": False,
                "attn_logit_softcapping": model.attention_softcap,
                "final_logit_softcapping": model.logit_softcap,
                "layer_types": layer_types,
                "query_pre_attn_scalar": _scalar(model),
                "sliding_window": model.sliding_window,
                "use_bidirectional_attention": None if model.family == "gemma2" else False,
            }
