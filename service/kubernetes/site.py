"""What the cluster's operator decides, and no config may: where jobs run, from which image, with what rights."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

_DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_BUCKET = r"^gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?$"


class Cluster(BaseModel):
    """One namespace of one cluster, as rendering needs to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    namespace: str = Field("default", pattern=_DNS_LABEL, description="Where jobs' objects are made.")
    image: str = Field("vishwamai/trainer:latest", min_length=1, description="The trainer's; pin it by digest.")
    image_pull_secrets: list[str] = Field([], description="Secrets with which nodes pull the image.")
    service_account: str = Field(
        "vishwamai-trainer", pattern=_DNS_LABEL, description="Of the pods; Workload Identity is bound to it."
    )
    service_url: str = Field(
        "http://vishwamai.default.svc:8000", pattern=r"^https?://", description="Where pods reach this service."
    )
    reports_audience: str = Field("vishwamai-reports", description="Of the token that trainers report with.")
    output_claim: str | None = Field(
        None, pattern=_DNS_LABEL, description="PersistentVolumeClaim, writable by many nodes, that keeps jobs' output."
    )
    output_bucket: str | None = Field(
        None, pattern=_BUCKET, description="Bucket, or folder of one, that keeps jobs' output; mounted by GCS FUSE."
    )
    keep_seconds: int | None = Field(
        86_400, ge=0, description="How long an ended JobSet stays; None: until the job is deleted."
    )
    cpu: str | None = Field(None, description="CPU request of a pod; None: three quarters of its machine.")
    memory: str | None = Field(None, description="Memory request of a pod; None: four fifths of its machine.")

    @model_validator(mode="after")
    def _one_output(self) -> "Cluster":
        if self.output_claim and self.output_bucket:
            raise ValueError("output_claim and output_bucket exclude each other: jobs' output is kept in one place")
        return self
