"""Attention in two Pallas TPU kernels of our own: `flash_attention`, and `supports`, which says what they take."""

from trainer.attention.flash.attend import flash_attention
from trainer.attention.flash.tiles import supports

__all__ = ["flash_attention", "supports"]
