"""The decoder: its weights, described once, and its forward pass."""

from trainer.model.decoder import Decoder
from trainer.model.layers import Computation
from trainer.model.parameters import Description, Params, describe, init_params

__all__ = ["Computation", "Decoder", "Description", "Params", "describe", "init_params"]
