"""Text from a trained model, with a key/value cache."""
