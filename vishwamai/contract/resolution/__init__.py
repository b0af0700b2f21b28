"""The steps of resolution, each a pure function of values. `resolve.py` strings them together."""
