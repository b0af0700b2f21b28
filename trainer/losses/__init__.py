"""What training minimizes."""

from trainer.losses.cross_entropy import cross_entropy
from trainer.losses.distillation import Goal, Output, Parts, distillation

__all__ = ["Goal", "Output", "Parts", "cross_entropy", "distillation"]
