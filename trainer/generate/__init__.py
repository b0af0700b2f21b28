"""Text from a trained model."""

from trainer.generate.sample import Sampling, Writer, sample

__all__ = ["Sampling", "Writer", "sample"]
