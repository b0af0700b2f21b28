"""The work that every peer does: one training step, float32, dropout off, untied head, GELU without a gate."""

from dataclasses import dataclass

import numpy as np

from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and a batch; heads are 64 wide."""

    hidden: int
    layers: int
    heads: int
    mlp: int
    vocab: int
    seq: int
    batch: int

    @property
    def tokens(self) -> int:
        """Tokens in a step."""
        return self.seq * self.batch


SHAPES = {
    "S": Shape(hidden=256, layers=4, heads=4, mlp=1024, vocab=32768, seq=512, batch=8),
    "M": Shape(hidden=768, layers=6, heads=12, mlp=3072, vocab=131072, seq=512, batch=2),
    "L": Shape(hidden=256, layers=4, heads=4, mlp=1024, vocab=32768, seq=4096, batch=1),
}
HEAD_DIM = 64
LEARNING_RATE, DECAY, CLIP = 1e-4, 0.01, 1.0


def job_of(shape: Shape) -> ResolvedJob:
    """Our own job for a shape, on one CPU device."""
    return resolve(
        check_config(
            {
                "model": {
                    "vocab_size": shape.vocab,
                    "hidden_dim": shape.hidden,
                    "num_layers": shape.layers,
                    "num_heads": shape.heads,
                    "head_dim": HEAD_DIM,
                    "mlp_dim": shape.mlp,
                    "max_seq_len": shape.seq,
                    "dropout_rate": 0.0,
                    "tie_embeddings": False,
                },
                "training": {
                    "batch_size": shape.batch,
                    "grad_accum_steps": 1,
                    "learning_rate": LEARNING_RATE,
                    "weight_decay": DECAY,
                    "max_grad_norm": CLIP,
                    "lr_schedule": "constant",
                    "warmup_steps": 0,
                },
                "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1", "use_bfloat16": False},
                "memory": {"gradient_checkpointing": False},
                "optimization": {"mixed_precision": False, "use_fp8": False, "use_dynamic_scale": False},
            }
        ),
        SiteDefaults(platform="cpu"),
    )


def tokens_of(shape: Shape) -> np.ndarray:
    """int32 [batch, seq + 1] random tokens, the same for every peer."""
    return np.random.default_rng(0).integers(0, shape.vocab, (shape.batch, shape.seq + 1), dtype=np.int32)
