"""A rough estimate of what one device must hold. It errs by tens of percent; the plan asks the compiler instead.

state        16 bytes a parameter (float32 weights, gradients, two moments) over the devices that split them
saved        with remat, the residual stream between layers and one layer's arrays; without, every layer's arrays:
             about 12 residual-sized, 4 MLP-sized, and the attention scores when attention is dense
logits       one chunk in float32, and its gradient
"""

import math
from dataclasses import dataclass

from vishwamai.contract.accelerators import find_generation
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.resolved import Execution, Hardware, Mesh, Precision

STATE_BYTES = 16
USABLE = 0.92
"""Share of HBM left by the runtime and by fragmentation."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes on one device."""

    state: float
    activations: float
    available: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.state + self.activations


def estimate(
    config: TrainingConfig, hardware: Hardware, mesh: Mesh, execution: Execution, precision: Precision, parameters: int
) -> Need:
    """What a device needs and has."""
    model = config.model
    width = 2 if precision.compute == "bfloat16" else 4
    # batch_size is a mean per device: an axis that splits tokens or features only shares out the same work.
    tokens = config.training.batch_size * model.max_seq_len
    scores = model.num_heads * model.max_seq_len if execution.attention == "dense" else 0
    layer = tokens * (12 * model.hidden_dim + 4 * model.mlp_dim + 2 * scores) * width
    kept = tokens * model.hidden_dim * width * model.num_layers * mesh.model
    saved = kept + layer if execution.remat == "full" else layer * model.num_layers
    logits = 2 * 4 * execution.loss_chunk_tokens * model.vocab_size
    split = mesh.model * math.prod(getattr(mesh, axis) for axis in execution.weight_axes)
    available = USABLE * find_generation(hardware.accelerator).hbm_bytes_per_device
    return Need(STATE_BYTES * parameters / split, saved + logits, available)
