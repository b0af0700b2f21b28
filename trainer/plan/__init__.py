"""The plan: what the real TPU compiler makes of a job's step for a slice that nobody has to own, and what it costs."""
