"""The JAX program that trains: `python -m trainer`."""
