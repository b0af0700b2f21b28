"""The pod of one TPU host: which nodes take it, what it may use, and what its trainer is told."""

import math
from typing import Any

from service.kubernetes import words
from service.kubernetes.policies import CONTAINER
from service.kubernetes.site import Cluster
from vishwamai.contract import environment
from vishwamai.contract.accelerators import Machine, find_generation
from vishwamai.contract.resolved import ResolvedJob

USER = 10001
"""Of the image, and group of its files."""
METRICS_PORT = 9400
COORDINATOR_PORT = 8482
MEGASCALE_PORT = 8080
TPU_PORTS = {"tpu": 8471, "tpu-metrics": 8431}
JOB_FOLDER, OUTPUT_FOLDER, TOKEN_FOLDER = "/job", "/output", "/var/run/secrets/vishwamai"
_CPU_SHARE, _MEMORY_SHARE = 0.75, 0.8
"""What a pod asks of its machine; the rest is for the system, the node's daemons and the FUSE sidecar."""


def pod_spec(job: ResolvedJob, cluster: Cluster, *, job_id: str, launch: int, jobset: str) -> dict[str, Any]:
    """The spec of every pod of a JobSet named `jobset`; `launch` is the attempt that it begins with."""
    spec: dict[str, Any] = {
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": math.ceil(job.effective.run.grace_seconds),
        "nodeSelector": _node_selector(job),
        "tolerations": _tolerations(job),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(job, cluster, job_id=job_id, launch=launch, jobset=jobset)],
        "volumes": _volumes(cluster, jobset),
    }
    if cluster.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    if priority := job.effective.run.priority_class:
        spec["priorityClassName"] = priority
    return spec


def _node_selector(job: ResolvedJob) -> dict[str, str]:
    asked, hardware = job.effective.tpu, job.hardware
    selector = {words.ACCELERATOR: hardware.accelerator_label, words.TOPOLOGY: hardware.topology}
    if _is_ambiguous(job):
        selector[words.INSTANCE_TYPE] = hardware.machine_type
    if asked.spot:
        selector[words.SPOT] = "true"
    if asked.flex_start:
        selector[words.FLEX_START] = "true"
    if asked.reservation:
        selector[words.RESERVATION] = asked.reservation
        selector[words.RESERVATION_AFFINITY] = "specific"
    if asked.compute_class:
        selector[words.COMPUTE_CLASS] = asked.compute_class
    return selector


def _is_ambiguous(job: ResolvedJob) -> bool:
    """Whether another machine has slices of the same label and topology."""
    hardware = job.hardware
    machines = find_generation(hardware.accelerator).machines
    alike = [
        machine
        for machine in machines
        if machine.label == hardware.accelerator_label
        and hardware.topology in (*machine.single_host, *machine.multi_host)
    ]
    return len(alike) > 1


def _tolerations(job: ResolvedJob) -> list[dict[str, str]]:
    tolerated = [{"key": words.TPU, "operator": "Exists", "effect": "NoSchedule"}]
    asked = job.effective.tpu
    for is_asked, label in ((asked.spot, words.SPOT), (asked.flex_start, words.FLEX_START)):
        if is_asked:
            tolerated.append({"key": label, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    if asked.compute_class:
        tolerated.append(
            {"key": words.COMPUTE_CLASS, "operator": "Equal", "value": asked.compute_class, "effect": "NoSchedule"}
        )
    return tolerated


def _container(job: ResolvedJob, cluster: Cluster, *, job_id: str, launch: int, jobset: str) -> dict[str, Any]:
    ports = {"metrics": METRICS_PORT, "coordinator": COORDINATOR_PORT, **TPU_PORTS}
    if job.hardware.num_slices > 1:
        ports["megascale"] = MEGASCALE_PORT
    return {
        "name": CONTAINER,
        "image": cluster.image,
        "args": ["train"],
        "env": _environment(job, cluster, job_id=job_id, launch=launch, jobset=jobset),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "resources": _resources(job, cluster),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Answered by a thread of its own from the first second: it is lost only when the whole process hangs. Training
        # that stands still is found by the trainer's own watchdog.
        "startupProbe": _probe(failures=60, period=10),
        "livenessProbe": _probe(failures=10, period=30),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "output", "mountPath": OUTPUT_FOLDER, "subPath": f"jobs/{job_id}"},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }


def _probe(*, failures: int, period: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": "/healthz", "port": "metrics"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _environment(job: ResolvedJob, cluster: Cluster, *, job_id: str, launch: int, jobset: str) -> list[dict[str, Any]]:
    hardware = job.hardware
    values = {
        environment.RESOLVED: f"{JOB_FOLDER}/resolved.json",
        environment.OUTPUT: OUTPUT_FOLDER,
        environment.JOB_ID: job_id,
        environment.ATTEMPT: str(launch),
        environment.REPORTS_URL: f"{cluster.service_url}/jobs/{job_id}/reports",
        environment.REPORTS_TOKEN_FILE: f"{TOKEN_FOLDER}/token",
        environment.METRICS_PORT: str(METRICS_PORT),
        "HOME": "/tmp",
    }
    fields = {environment.RESTARTS: f"metadata.labels['{words.RESTARTS}']"}
    if hardware.hosts > 1:
        values |= {
            environment.COORDINATOR: f"{coordinator(jobset)}:{COORDINATOR_PORT}",
            environment.PROCESSES: str(hardware.hosts),
            environment.HOSTS_PER_SLICE: str(hardware.hosts_per_slice),
        }
        fields |= {
            environment.SLICE: f"metadata.annotations['{words.SLICE_INDEX}']",
            environment.HOST: f"metadata.annotations['{words.HOST_INDEX}']",
        }
    if hardware.num_slices > 1 and hardware.platform == "tpu":
        values["MEGASCALE_PORT"] = str(MEGASCALE_PORT)
        fields |= {
            "MEGASCALE_NUM_SLICES": f"metadata.annotations['{words.SLICES}']",
            "MEGASCALE_SLICE_ID": f"metadata.annotations['{words.SLICE_INDEX}']",
            "MEGASCALE_COORDINATOR_ADDRESS": f"metadata.annotations['{words.COORDINATOR}']",
        }
    named = [{"name": name, "value": value} for name, value in values.items()]
    return named + [{"name": n, "valueFrom": {"fieldRef": {"fieldPath": path}}} for n, path in fields.items()]


def coordinator(jobset: str) -> str:
    """The name under which the pods of a JobSet find its first one."""
    return f"{jobset}-{WORKERS}-0-0.{jobset}"


WORKERS = "w"
"""The JobSet's one group of Jobs, one a slice; short, because it is part of every pod's name."""


def _resources(job: ResolvedJob, cluster: Cluster) -> dict[str, Any]:
    machine = _machine(job)
    memory = cluster.memory or f"{int(machine.memory_gb * _MEMORY_SHARE)}Gi"
    chips = str(machine.chips)
    return {
        "requests": {
            "cpu": cluster.cpu or str(int(machine.vcpus * _CPU_SHARE)),
            "memory": memory,
            "ephemeral-storage": "10Gi",
            words.TPU: chips,
        },
        "limits": {"memory": memory, words.TPU: chips},
    }


def _machine(job: ResolvedJob) -> Machine:
    machines = find_generation(job.hardware.accelerator).machines
    return next(machine for machine in machines if machine.machine_type == job.hardware.machine_type)


def _volumes(cluster: Cluster, jobset: str) -> list[dict[str, Any]]:
    token = {"serviceAccountToken": {"audience": cluster.reports_audience, "expirationSeconds": 3600, "path": "token"}}
    return [
        {"name": "job", "configMap": {"name": jobset}},
        {"name": "token", "projected": {"sources": [token]}},
        {"name": "output"} | _output(cluster),
        {"name": "scratch", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]


def _output(cluster: Cluster) -> dict[str, Any]:
    if cluster.output_claim:
        return {"persistentVolumeClaim": {"claimName": cluster.output_claim}}
    if cluster.output_bucket:
        bucket, _, folder = cluster.output_bucket.removeprefix("gs://").partition("/")
        options = "implicit-dirs" + (f",only-dir={folder.strip('/')}" if folder.strip("/") else "")
        return {
            "csi": {
                "driver": words.GCS_FUSE_DRIVER,
                "volumeAttributes": {"bucketName": bucket, "mountOptions": options},
            }
        }
    return {"emptyDir": {}}
