"""Checkpoints: saved in the background, committed whole or not at all, checked before they are trusted."""

from trainer.checkpoints.places import place_of
from trainer.checkpoints.store import Checkpoints, Restored

__all__ = ["Checkpoints", "Restored", "place_of"]
