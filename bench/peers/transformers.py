"""Hugging Face transformers on torch, where they are installed: a Llama of as many parameters, eager attention.

transformers has no model with a GELU MLP that is not gated beside RMSNorm and RoPE, so the gated one gets two thirds of
the width: the same weights and the same work. AdamW and clipping are torch's.
"""

from collections.abc import Callable
from typing import Any

import torch
import transformers

from bench.shapes import CLIP, DECAY, HEAD_DIM, LEARNING_RATE, Shape, tokens_of


def make(shape: Shape) -> tuple[Any, Callable[[Any], Any], Any]:
    """(state, step: state -> (state, loss), nothing compiled)."""
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        head_dim=HEAD_DIM,
        intermediate_size=2 * shape.mlp // 3,
        hidden_act="gelu_pytorch_tanh",
        max_position_embeddings=shape.seq,
        tie_word_embeddings=False,
        use_cache=False,
    )
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=DECAY)
    tokens = torch.from_numpy(tokens_of(shape)).long()

    def run(state: Any) -> tuple[Any, Any]:
        optimizer.zero_grad(set_to_none=True)
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, shape.vocab), tokens[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return state, loss.detach()

    return None, run, None
