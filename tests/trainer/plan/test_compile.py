"""The real TPU compiler on a tiny job: memory, cycles and exit codes, as the command prints them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.plan.hlo import parse_hlo
from vishwamai.contract.accelerators import find_generation
from vishwamai.contract.plan import Plan

TINY: dict[str, Any] = {
    "model": {
        "vocab_size": 512,
        "hidden_dim": 128,
        "num_layers": 2,
        "num_heads": 2,
        "head_dim": 64,
        "mlp_dim": 256,
        "max_seq_len": 256,
        "dropout_rate": 0.0,
    },
    "training": {"batch_size": 2, "warmup_steps": 2, "max_steps": 20},
    "tpu": {"accelerator": "v5p", "tpu_topology": "2x2x1", "mesh_shape": {"data": 4}},
    "optimization": {"attention": "blockwise", "shard_weights": False},
    "sequence": {"max_length": 256},
}


def plan(folder: Path, document: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    config = folder / "config.json"
    config.write_text(json.dumps(document))
    # A process of its own: jax and libtpu read their environment when they are loaded. No flags of the suite.
    environ = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    command = [sys.executable, "-m", "trainer", "plan", "--config", str(config), "--slice", "v5e:2x4", *options]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, str]:
    folder = tmp_path_factory.mktemp("plan")
    answer = plan(folder, TINY, "-o", "json", "--hlo", str(folder / "step.hlo.txt"))
    assert answer.returncode == 0, answer.stderr
    return Plan.model_validate_json(answer.stdout), (folder / "step.hlo.txt").read_text()


def test_a_step_compiles_for_an_absent_slice(compiled: tuple[Plan, str]):
    found, text = compiled
    assert (found.accelerator, found.topology, found.devices, found.mesh.data) == ("v5e", "2x4", 8, 8)
    assert found.fits
    assert parse_hlo(text).entry
    assert found.versions.keys() == {"jax", "libtpu"}


def test_its_memory_is_that_of_state_and_batch(compiled: tuple[Plan, str]):
    memory, parameters = compiled[0].memory, compiled[0].parameters
    assert memory.arguments is not None
    # Whole copies of weights and two moments in float32, and four fields of 2 x 256 tokens; small arrays are padded.
    state_and_batch = 3 * 4 * parameters + 4 * 4 * 2 * 256
    assert state_and_batch <= memory.arguments < 1.1 * state_and_batch + 2**20
    assert memory.available == find_generation("v5e").compiler_hbm_bytes


def test_its_cycles_come_from_every_part(compiled: tuple[Plan, str]):
    cost = compiled[0].cost
    assert cost is not None
    kinds = {kind.kind: kind.cycles for kind in cost.kinds}
    assert {"matmul", "collective", "optimizer"} <= kinds.keys()
    assert sum(kinds.values()) == cost.cycles_per_step > cost.ideal_cycles
    parts = {part.part.partition(" ")[0] for part in cost.parts}
    assert {"model/layers.py", "losses/cross_entropy.py", "step.py"} <= parts
    assert {"forward", "backward", "outside"} <= {part.which for part in cost.parts}
    # The gradients of all weights cross the network once a step, in float32 or less.
    moved = sum(kind.bytes for kind in [*cost.kinds, *cost.beside] if kind.kind.startswith("collective"))
    assert 0.9 * 2 * 7 / 8 * 2 * compiled[0].parameters < moved < 1.1 * 2 * 7 / 8 * 4 * compiled[0].parameters


def test_every_loop_is_accounted_for(compiled: tuple[Plan, str]):
    assert [note for note in compiled[0].notes if "loop" in note] == []


def test_too_much_is_refused_with_the_sizes_and_the_exit_code_of_memory(tmp_path: Path):
    large = TINY | {"model": TINY["model"] | {"hidden_dim": 8192, "mlp_dim": 65536, "num_heads": 128}}
    answer = plan(tmp_path, large, "-o", "json")
    assert answer.returncode == 70, answer.stderr
    found = Plan.model_validate_json(answer.stdout)
    assert not found.fits
    assert found.cost is None
    # The state alone is 12 bytes a parameter.
    assert found.memory.required > 12 * found.parameters
    assert found.memory.headroom < 0
    assert any("shard_weights" in line for line in found.advice)


def test_the_catalogue_has_this_compilers_rate_and_memory():
    program = """
import os
from pathlib import Path
from trainer.plan.topology import prepare_compiler, slice_devices
from vishwamai.contract.accelerators import slice_for
prepare_compiler(os.environ, Path(os.devnull) / "nowhere")
del os.environ["LIBTPU_INIT_ARGS"]
import jax, jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
place = SingleDeviceSharding(slice_devices(slice_for("v5e", "2x4"), 1)[0])
square = jax.ShapeDtypeStruct((4096, 4096), jnp.bfloat16, sharding=place)
print(jax.jit(jnp.dot).lower(square, square).compile().as_text())
try:
    jax.jit(jnp.sort).lower(jax.ShapeDtypeStruct((2**20, 2**14), jnp.float32, sharding=place)).compile()
except jax.errors.JaxRuntimeError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280)
    assert answer.returncode == 0, answer.stderr
    (cycles,) = re.findall(r'"estimated_cycles":"(\d+)"', answer.stdout)
    assert round(2 * 4096**3 / int(cycles)) == find_generation("v5e").matmul_flops_per_cycle
    (available,) = re.findall(r"exceeds available HBM \(([\d.]+)G\)", answer.stdout)
    assert int(float(available) * 2**30) == find_generation("v5e").compiler_hbm_bytes
