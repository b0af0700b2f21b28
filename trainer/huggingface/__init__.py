"""Checkpoints of Hugging Face transformers: read, written, and compared."""

from trainer.huggingface.export import export_checkpoint
from trainer.huggingface.load import Source, load_params, read_source
from trainer.huggingface.start import initial_params

__all__ = ["Source", "export_checkpoint", "initial_params", "load_params", "read_source"]
