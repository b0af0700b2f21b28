"""What training minimizes."""

from trainer.losses.cached import CachedGoal, cached_distillation
from trainer.losses.cross_entropy import cross_entropy
from trainer.losses.distillation import Goal, distillation
from trainer.losses.taught import Output, Parts
from trainer.losses.top_words import TopWords, top_words

__all__ = [
    "CachedGoal",
    "Goal",
    "Output",
    "Parts",
    "TopWords",
    "cached_distillation",
    "cross_entropy",
    "distillation",
    "top_words",
]
