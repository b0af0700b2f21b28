"""What training minimizes."""

from trainer.losses.cross_entropy import cross_entropy
from trainer.losses.distillation import Goal, distillation
from trainer.losses.taught import Output, Parts

__all__ = ["Goal", "Output", "Parts", "cross_entropy", "distillation"]
