"""Training a tokenizer of a corpus's own."""
