"""Causal self-attention within documents: one signature, several ways to compute it."""

from trainer.attention.attend import attend

__all__ = ["attend"]
