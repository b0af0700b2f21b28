"""Sets JAX up for the job's hardware. Must run before jax is imported, because jax reads the environment only then."""

import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from vishwamai.contract.resolved import Platform, ResolvedJob

_DEVICE_COUNT = "--xla_force_host_platform_device_count"
_JAX_PLATFORMS: dict[Platform, str] = {"cpu": "cpu", "tpu": "tpu,cpu", "gpu": "cuda,cpu"}


def detect_platform(environ: Mapping[str, str], root: Path = Path("/")) -> Platform:
    """What this machine has: JAX_PLATFORMS when set, else the device files of a TPU or a GPU, else CPU."""
    first = environ.get("JAX_PLATFORMS", "").partition(",")[0]
    if first:
        return "tpu" if first == "tpu" else "gpu" if first in ("cuda", "gpu", "rocm") else "cpu"
    if any(root.glob("dev/accel[0-9]*")) or any(root.glob("dev/vfio/[0-9]*")):
        return "tpu"
    return "gpu" if (root / "dev/nvidia0").exists() else "cpu"


def prepare_devices(job: ResolvedJob, environ: MutableMapping[str, str], *, processes: int = 1) -> None:
    """Picks JAX's platform, and on CPU as many virtual devices as the job has real ones, shared out over processes.

    What the environment already says about either is respected.
    """
    assert "jax" not in sys.modules or environ.get("JAX_PLATFORMS"), "jax was imported before its devices were chosen"
    environ.setdefault("JAX_PLATFORMS", _JAX_PLATFORMS[job.hardware.platform])
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA's C++ chatter; its errors still show
    flags = environ.get("XLA_FLAGS", "")
    if job.hardware.platform == "cpu" and _DEVICE_COUNT not in flags:
        environ["XLA_FLAGS"] = f"{flags} {_DEVICE_COUNT}={job.mesh.devices // processes}".strip()
