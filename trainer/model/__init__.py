"""The decoder: its weights, described once, and its forward pass."""

from trainer.model.computation import Computation, Params
from trainer.model.decoder import Decoder
from trainer.model.parameters import Description, describe, init_params

__all__ = ["Computation", "Decoder", "Description", "Params", "describe", "init_params"]
