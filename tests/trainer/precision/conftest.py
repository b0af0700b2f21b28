"""Tests that compile need the TPU compiler, which has packages for Linux on x86-64 alone."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("libtpu") else ["test_tpu.py"]
