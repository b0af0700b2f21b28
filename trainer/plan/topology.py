"""Devices of a slice that nobody has to own: libtpu describes them, and its compiler compiles for them."""

import importlib.util
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from trainer.errors import UserError
from vishwamai.contract.accelerators import Slice

_HOST_BOUNDS = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1)}
"""Chips along each side of a machine."""

_SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # a program from there would name other lines of the source
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # libtpu asks for the machine it runs on, whatever it compiles for, and complains when there is none.
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# Only the last of some seventy states of each kernel: the whole would be gigabytes.
_DUMP = "--xla_jf_dump_to={} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex=^final_bundles$"


def prepare_compiler(environ: MutableMapping[str, str], dump: Path) -> None:
    """Sets the environment for compiling without a TPU, with kernels' schedules written to a folder.

    Before jax is imported: jax and libtpu read it only then. Raises UserError when libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "the plan needs the TPU compiler, libtpu, which is not installed: pip install 'vishwamai[trainer,plan]' "
            "(there are packages for Linux on x86-64 alone; it needs no TPU)"
        )
    environ.update(_SETTINGS)
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    environ["LIBTPU_INIT_ARGS"] = f"{environ.get('LIBTPU_INIT_ARGS', '')} {_DUMP.format(dump)}".strip()


def slice_devices(chosen: Slice, num_slices: int) -> list[Any]:
    """The devices of so many slices, to compile for and not to run on."""
    from jax.experimental import topologies  # reads the environment

    generation = chosen.generation
    options: dict[str, Any] = {"chips_per_host_bounds": _HOST_BOUNDS[chosen.machine.chips]}
    if generation.tensor_cores_per_chip > generation.devices_per_chip:
        options["chip_config_name"] = "megacore"
    if num_slices > 1:
        options["num_slices"] = num_slices
    name = f"{generation.name}:{chosen.topology}"
    return list(topologies.get_topology_desc(topology_name=name, platform="tpu", **options).devices)
