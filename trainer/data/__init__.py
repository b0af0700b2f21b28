"""From files to batches: sources -> tokenizer -> documents -> split -> packed windows -> batch(step).

Tokenizers are read before JAX may be imported (trainer/distill/teacher.py): nothing is imported here.
"""
