"""The jobs whose manifests are kept as goldens: every accelerator, in every way that changes what is rendered.

`python -m tests.service.kubernetes.shapes` writes the goldens anew; read the difference before committing it.
"""

from functools import cache
from pathlib import Path
from typing import Any

from service.kubernetes.render import Manifest, render, to_yaml
from service.kubernetes.site import Cluster
from service.kubernetes.words import CONFIG_HASH
from vishwamai.contract.load import check_config
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob

GOLDENS = Path(__file__).parent / "goldens"
JOB_ID = "j0123456789abcdefg"
SITE = Cluster(
    namespace="training",
    image="registry.example/vishwamai/trainer@sha256:" + "0" * 64,
    service_url="http://vishwamai.training.svc:8000",
    output_bucket="gs://runs-of-a-team/vishwamai",
)

_SINGLE = {"v3": "2x2", "v4": "2x2x1", "v5e": "2x4", "v5p": "2x2x1", "v6e": "1x1", "tpu7x": "2x2x1"}
_MULTI = {"v3": "4x4", "v4": "2x2x2", "v5e": "4x4", "v5p": "2x2x4", "v6e": "4x8", "tpu7x": "2x4x4"}


@cache
def configs() -> dict[str, dict[str, Any]]:
    """Config by the name of its golden."""
    found: dict[str, dict[str, Any]] = {}
    for name in _SINGLE:
        single, multi = ({"accelerator": name, "tpu_topology": shapes[name]} for shapes in (_SINGLE, _MULTI))
        found[f"{name}-single-host"] = {"tpu": single}
        found[f"{name}-multi-host"] = {"tpu": multi}
        if name != "v3":  # its slices cannot be joined
            found[f"{name}-multi-slice"] = {"tpu": multi | {"num_slices": 2}}
        found[f"{name}-spot"] = {"tpu": multi | {"spot": True}, "run": {"max_restarts": 10}}
        found[f"{name}-kueue"] = {"tpu": single, "run": {"queue": "tpu", "priority_class": "batch-low"}}
    found["v5e-flex-start"] = {"tpu": {"accelerator": "v5e", "tpu_topology": "2x4", "flex_start": True}}
    found["v5p-reservation"] = {"tpu": {"accelerator": "v5p", "tpu_topology": "4x4x4", "reservation": "team-a"}}
    found["v6e-compute-class"] = {"tpu": {"accelerator": "v6e", "tpu_topology": "2x2", "compute_class": "tpu-any"}}
    return found


def resolved(config: dict[str, Any]) -> ResolvedJob:
    """The job that a config becomes on a cluster."""
    return resolve(check_config(config))


def jobset(config: dict[str, Any], site: Cluster = SITE) -> Manifest:
    """The JobSet of a config."""
    return render(JOB_ID, resolved(config), site)[1]


def golden(config: dict[str, Any]) -> str:
    """What is kept: the JobSet, without the one value that changes with every field of the contract."""
    manifest = jobset(config)
    assert len(manifest["metadata"]["annotations"].pop(CONFIG_HASH)) == 64
    return to_yaml([manifest])


def _write() -> None:
    for old in GOLDENS.glob("*.yaml"):
        old.unlink()
    for name, config in configs().items():
        (GOLDENS / f"{name}.yaml").write_text(golden(config))


if __name__ == "__main__":
    _write()
