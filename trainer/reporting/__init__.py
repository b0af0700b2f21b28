"""Tells people and programs how training goes: files, console, Prometheus, control plane."""

from trainer.reporting.reporter import Reporter, Sink, now

__all__ = ["Reporter", "Sink", "now"]
