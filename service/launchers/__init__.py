"""Ways to turn an attempt into running processes."""
