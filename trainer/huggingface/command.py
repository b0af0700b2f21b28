"""`python -m trainer export`: a run's newest checkpoint, or a Hugging Face folder, as a new Hugging Face folder."""

from pathlib import Path

from trainer.errors import UserError
from trainer.huggingface.export import export_checkpoint
from trainer.huggingface.load import Source, load_params, read_source
from trainer.mesh import make_mesh
from trainer.restored import newest_state
from vishwamai.contract.resolved import Mesh, ResolvedJob


def export_again(source: Path, folder: Path, *, dtype: str | None, max_shard_bytes: int) -> None:
    """Reads a Hugging Face checkpoint and writes it again."""
    read = read_source(source)
    export_checkpoint(load_params(read), read.model, folder, dtype=dtype, max_shard_bytes=max_shard_bytes, source=read)


def export_run(job: ResolvedJob, output: Path, folder: Path, *, dtype: str | None, max_shard_bytes: int) -> None:
    """Writes the newest committed checkpoint of the run in `output`.

    Works on one device, wherever the run was. A run that started from a Hugging Face checkpoint passes on what that one
    has beside its weights, as far as its folder is still there.
    """
    hardware = job.hardware.model_copy(update={"num_slices": 1})
    job = job.model_copy(update={"mesh": Mesh(), "hardware": hardware})
    sequence = job.effective.sequence
    export_checkpoint(
        newest_state(job, make_mesh(job), output).params,
        job.effective.model,
        folder,
        dtype=dtype or "float32",
        max_shard_bytes=max_shard_bytes,
        source=_origin(job),
        token_ids={"eos_token_id": sequence.eos_token_id, "pad_token_id": sequence.pad_token_id},
    )


def _origin(job: ResolvedJob) -> Source | None:
    """The checkpoint that the run started from, if it can still be read."""
    if job.effective.checkpoint.init_from is None:
        return None
    try:
        return read_source(Path(job.effective.checkpoint.init_from))
    except UserError:
        return None
