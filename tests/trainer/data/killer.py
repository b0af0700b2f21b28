"""A tokenizer for a worker process, which imports this file and should not have to import JAX."""

import os


class Killer:
    """Ends the process that tokenizes with it."""

    vocab_size, eos_id = 10, 1

    def encode_many(self, texts):
        os._exit(9)
