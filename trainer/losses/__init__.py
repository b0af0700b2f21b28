"""What training minimizes."""

from trainer.losses.cross_entropy import cross_entropy

__all__ = ["cross_entropy"]
