"""Causal self-attention within documents: one signature (attend.py), several ways to compute it."""
