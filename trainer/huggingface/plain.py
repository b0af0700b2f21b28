"""A job around an imported model alone, which nothing trains: one device, no config of its own."""

from vishwamai.contract.config import ModelSection, TrainingConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ComputeType, Execution, Mesh, Platform, Precision, ResolvedJob, SiteDefaults


def plain_job(model: ModelSection, *, platform: Platform = "cpu", compute: ComputeType = "float32") -> ResolvedJob:
    """The model on one device."""
    job = resolve(TrainingConfig(), SiteDefaults(platform=platform))
    return job.model_copy(
        update={
            "effective": job.effective.model_copy(update={"model": model}),
            "hardware": job.hardware.model_copy(update={"num_slices": 1}),
            "mesh": Mesh(),
            "precision": Precision(compute=compute),
            "execution": Execution(
                attention="blockwise", attention_block=128, remat="none", loss_chunk_tokens=1024, weight_axes=[]
            ),
        }
    )
