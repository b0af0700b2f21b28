"""`python -m trainer export`: a run's checkpoint, or a Hugging Face folder, as a new Hugging Face folder."""

from pathlib import Path

from trainer.errors import UserError
from trainer.huggingface.export import export_checkpoint
from trainer.huggingface.load import Source, load_params, read_source
from trainer.mesh import make_mesh
from trainer.restored import find_run, params_at
from vishwamai.contract.resolved import Mesh, ResolvedJob


def export(source: str, folder: Path, *, step: int | None, dtype: str | None, max_shard_bytes: int) -> int | None:
    """Writes what `source` names, and gives the step if it is a run's.

    Args:
      source: output folder of a run, its folder of checkpoints (or address), one checkpoint, or a Hugging Face folder.
      folder: gets the export; a new one.
      step: which of a run's checkpoints; None takes the newest, or the one that is named.
      dtype: float32 or bfloat16; None leaves an imported checkpoint's formats, and is float32 for a run.
      max_shard_bytes: larger files are split.

    Raises UserError where there is nothing to export, or the folder is in use.
    """
    run = find_run(source)
    if run is not None:
        job, output, named = run
        if step is not None and named not in (None, step):
            raise UserError(f"--from {source!r} is the checkpoint of step {named}, and --step asks for {step}")
        return _export_run(job, output, named if step is None else step, folder, dtype, max_shard_bytes)
    if step is not None:
        raise UserError(f"--step is for runs, and {source!r} is none")
    read = read_source(Path(source))
    export_checkpoint(load_params(read), read.model, folder, dtype=dtype, max_shard_bytes=max_shard_bytes, source=read)
    return None


def _export_run(
    job: ResolvedJob, output: Path, step: int | None, folder: Path, dtype: str | None, max_shard_bytes: int
) -> int:
    """Works on one device, wherever the run was, and reads the weights alone.

    A run that started from a Hugging Face checkpoint passes on what that one has beside its weights, as far as its
    folder is still there.
    """
    hardware = job.hardware.model_copy(update={"num_slices": 1})
    job = job.model_copy(update={"mesh": Mesh(), "hardware": hardware})
    sequence = job.effective.sequence
    params, found = params_at(job, make_mesh(job), output, step)
    export_checkpoint(
        params,
        job.effective.model,
        folder,
        dtype=dtype or "float32",
        max_shard_bytes=max_shard_bytes,
        source=_origin(job),
        token_ids={"eos_token_id": sequence.eos_token_id, "pad_token_id": sequence.pad_token_id},
        run=job.effective,
    )
    return found


def _origin(job: ResolvedJob) -> Source | None:
    """The checkpoint that the run started from, if it can still be read."""
    if job.effective.checkpoint.init_from is None:
        return None
    try:
        return read_source(Path(job.effective.checkpoint.init_from))
    except UserError:
        return None
