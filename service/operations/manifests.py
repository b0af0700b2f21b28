"""What would be created on a Kubernetes cluster, as text that `kubectl apply -f` takes without this service."""

from service.kubernetes.render import render, to_yaml
from service.operations.context import Context
from service.operations.jobs import record
from service.operations.submit import document_hash, resolved_on
from service.operations.teachers import DIGITS
from vishwamai.contract.load import parse_json


def of_config(context: Context, body: bytes) -> str:
    """The manifests of a config; the same config gets the same names. Raises InvalidConfig."""
    document = parse_json(body)
    job = resolved_on(context, document, "kubernetes")
    digest = bytes.fromhex(document_hash(document))
    return to_yaml(render("j" + "".join(DIGITS[byte & 31] for byte in digest[:17]), job, context.cluster))


def of_job(context: Context, job_id: str) -> str:
    """The manifests of a job, as if it were launched on the cluster now. Raises JobNotFound."""
    found = record(context, job_id)
    job = resolved_on(context, found.resolved.requested, "kubernetes")
    return to_yaml(render(found.id, job, context.cluster, launch=len(found.attempts) + 1))
