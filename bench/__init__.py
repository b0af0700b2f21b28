"""Speed and memory, as ratios within one run: `python -m bench [step attention loss context compile host] [S M L]`."""
