"""What the TPU compiler makes of a projection in FP8 for a chip with FP8 units."""

import os
import re
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from pathlib import Path
from trainer.plan.topology import prepare_compiler, slice_devices
prepare_compiler(os.environ, Path(sys.argv[1]))
import jax, jax.numpy as jnp
from trainer.linear import Multiplied, linear
from vishwamai.contract.accelerators import slice_for

def layer(x, w, dy):
    y, pull = jax.vjp(lambda x, w: linear(x, w, Multiplied("fp8")), x, w)
    return y, *pull(dy)

place = jax.sharding.SingleDeviceSharding(slice_devices(slice_for("tpu7x", "1x1x1"), 1)[0])
x = jax.ShapeDtypeStruct((256, 256), jnp.bfloat16, sharding=place)
print(jax.jit(layer).lower(x, x, x).compile().as_text())
"""


@pytest.mark.timeout(280)
def test_tpu7x_multiplies_fp8_and_sums_in_float32(tmp_path):
    environ = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environ, capture_output=True, text=True, timeout=270
    )
    assert ran.returncode == 0, ran.stderr
    types = dict(re.findall(r"(%[\w.-]+) = (\w+)\[", ran.stdout))
    products = re.findall(r"= (\w+)\[\S+ convolution\((%[\w.-]+), (%[\w.-]+)\)", ran.stdout)
    found = sorted((result, *sorted((types[a], types[b]))) for result, a, b in products)
    assert found == [
        ("f32", "f8e4m3fn", "f8e4m3fn"),
        ("f32", "f8e4m3fn", "f8e5m2"),
        ("f32", "f8e4m3fn", "f8e5m2"),
    ]
