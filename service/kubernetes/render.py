"""From a resolved job to the objects that run it: a ConfigMap that holds the job, and a JobSet. Nothing else, no I/O.

Names are made of the job's id and the attempt that the objects begin with, so rendering again gives the same objects,
and a job that was retried gets new ones beside what is left of the old.
"""

from hashlib import sha256
from typing import Any

import yaml

from service.kubernetes import words
from service.kubernetes.pods import WORKERS, pod_spec
from service.kubernetes.policies import failure_policy, pod_failure_policy
from service.kubernetes.site import Cluster
from vishwamai.contract.resolved import ResolvedJob

Manifest = dict[str, Any]


def object_name(job_id: str, launch: int) -> str:
    """The name of a job's objects that begin with attempt `launch`: a DNS label of at most 24 characters."""
    return f"{job_id}-{launch}"


def render(job_id: str, job: ResolvedJob, cluster: Cluster, *, launch: int = 1) -> list[Manifest]:
    """The ConfigMap and the JobSet of a job, in the order in which they are to be created.

    Args:
      job_id: of the service, at most 18 characters of a DNS label; it is the one name that objects have.
      job: what is to run. Its name may be in any language: it is kept in an annotation.
      cluster: where.
      launch: number of the attempt that this JobSet begins with; its own restarts count on from there.
    """
    document = job.model_dump_json(indent=1)
    name = object_name(job_id, launch)
    meta = {
        "name": name,
        "namespace": cluster.namespace,
        "labels": _labels(job_id, launch),
        "annotations": {
            words.NAME: job.effective.run.name or job_id,
            words.CONFIG_HASH: sha256(document.encode()).hexdigest(),
        },
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"resolved.json": document}}
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": _jobset_meta(meta, job),
        "spec": _jobset_spec(job_id, job, cluster, launch),
    }
    return [config, jobset]


def to_yaml(manifests: list[Manifest]) -> str:
    """The manifests as `kubectl apply -f` takes them."""
    # Letters beyond ASCII are escaped: libyaml's own escapes are incomplete once it may leave some as they are.
    return str(yaml.dump_all(manifests, Dumper=yaml.CSafeDumper, sort_keys=False, width=120))


def _labels(job_id: str, launch: int) -> dict[str, str]:
    return {
        words.APP: "vishwamai",
        words.COMPONENT: "trainer",
        words.MANAGED_BY: "vishwamai",
        words.JOB: job_id,
        words.LAUNCH: str(launch),
    }


def _jobset_meta(meta: Manifest, job: ResolvedJob) -> Manifest:
    labels, annotations = dict(meta["labels"]), dict(meta["annotations"])
    if queue := job.effective.run.queue:
        labels[words.QUEUE] = queue
    if job.hardware.hosts_per_slice > 1:
        annotations[words.EXCLUSIVE] = words.NODE_POOL
    return meta | {"labels": labels, "annotations": annotations}


def _jobset_spec(job_id: str, job: ResolvedJob, cluster: Cluster, launch: int) -> Manifest:
    name, hosts = object_name(job_id, launch), job.hardware.hosts_per_slice
    pod_annotations = {words.SAFE_TO_EVICT: "false"}
    if cluster.output_bucket:
        pod_annotations[words.GCS_FUSE] = "true"
    pod = {
        "metadata": {"labels": _labels(job_id, launch), "annotations": pod_annotations},
        "spec": pod_spec(job, cluster, job_id=job_id, launch=launch, jobset=name),
    }
    one_slice = {
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "backoffLimit": 0,
        "podFailurePolicy": pod_failure_policy(),
        "template": pod,
    }
    spec: Manifest = {
        # Pods must find one another while none is ready yet.
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": name},
        "successPolicy": {"operator": "All"},
        "failurePolicy": failure_policy(job.effective.run.max_restarts),
        "coordinator": {"replicatedJob": WORKERS, "jobIndex": 0, "podIndex": 0},
        "replicatedJobs": [
            {"name": WORKERS, "replicas": job.hardware.num_slices, "template": {"spec": one_slice}},
        ],
    }
    if cluster.keep_seconds is not None:
        spec["ttlSecondsAfterFinished"] = cluster.keep_seconds
    return spec
