"""VishwamAI: train language models on TPUs from one JSON config."""

__version__ = "0.1.0"
