"""The loop that makes what runs agree with what was asked: load, decide, apply."""
