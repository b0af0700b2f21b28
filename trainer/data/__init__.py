"""From files to batches: sources -> tokenizer -> documents -> split -> packed windows -> batch(step)."""

from trainer.data.loader import TrainingData, open_data
from trainer.data.tokenizers import Tokenizer, check_fits, open_tokenizer

__all__ = ["Tokenizer", "TrainingData", "check_fits", "open_data", "open_tokenizer"]
