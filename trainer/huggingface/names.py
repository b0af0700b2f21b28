"""Which weight of ours is which tensor of a Hugging Face checkpoint.

Ours are stacked over the layers and map inputs to outputs, [L, in, out]; theirs are one a layer, [out, in]. With
norm_offset both sides store the weight w of a norm that multiplies by 1 + w.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vishwamai.contract.config import ModelSection

Path = tuple[str, ...]
"""Keys that lead to a weight in the parameters."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint."""

    name: str
    """As transformers names it, from 'model.' or 'lm_head.' on."""
    path: Path
    layer: int | None
    """Which slice of the stacked weight; None when it is not stacked."""
    shape: tuple[int, ...]
    """Its shape in the checkpoint."""
    transposed: bool = False


def tensors(model: ModelSection) -> list[Tensor]:
    """Every tensor of the model, in the order of transformers' state dict."""
    V, H = model.vocab_size, model.hidden_dim
    found = [Tensor("model.embed_tokens.weight", ("embedding",), None, (V, H))]
    for layer in range(model.num_layers):
        found += _of_layer(model, layer)
    found.append(Tensor("model.norm.weight", ("norm", "scale"), None, (H,)))
    if not model.tie_embeddings:
        found.append(Tensor("lm_head.weight", ("head",), None, (V, H)))
    return found


def _of_layer(model: ModelSection, layer: int) -> Iterator[Tensor]:
    H, D = model.hidden_dim, model.head_dim
    queries, keys = model.num_heads * D, model.kv_heads * D

    def tensor(name: str, path: str, *shape: int) -> Tensor:
        where = ("blocks", *path.split("."))
        return Tensor(f"model.layers.{layer}.{name}", where, layer, shape, transposed=len(shape) == 2)

    for short, ours, width in (("q", "query", queries), ("k", "key", keys), ("v", "value", keys)):
        yield tensor(f"self_attn.{short}_proj.weight", f"attention.{ours}", width, H)
        if model.qkv_bias:
            yield tensor(f"self_attn.{short}_proj.bias", f"attention.{ours}_bias", width)
    yield tensor("self_attn.o_proj.weight", "attention.out", H, queries)
    if model.qk_norm:
        yield tensor("self_attn.q_norm.weight", "attention.query_norm.scale", D)
        yield tensor("self_attn.k_norm.weight", "attention.key_norm.scale", D)
    yield from (tensor(*row) for row in _feed_forward(model))
    for name, path in _norms(model):
        yield tensor(f"{name}.weight", f"{path}.scale", H)


def _feed_forward(model: ModelSection) -> Iterator[tuple[str, str, int, int]]:
    H, M = model.hidden_dim, model.mlp_dim
    if model.gated:
        yield "mlp.gate_proj.weight", "mlp.gate", M, H
    yield "mlp.up_proj.weight", "mlp.up", M, H
    yield "mlp.down_proj.weight", "mlp.down", H, M


def _norms(model: ModelSection) -> list[tuple[str, str]]:
    if not model.post_norms:
        return [("input_layernorm", "attention_norm"), ("post_attention_layernorm", "mlp_norm")]
    return [
        ("input_layernorm", "attention_norm"),
        ("post_attention_layernorm", "attention_post_norm"),
        ("pre_feedforward_layernorm", "mlp_norm"),
        ("post_feedforward_layernorm", "mlp_post_norm"),
    ]
