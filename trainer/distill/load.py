"""A teacher's weights, from a Hugging Face folder or a run's checkpoint to their places on the mesh."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from trainer.distill.kept import keep_teacher
from trainer.distill.teacher import place_of
from trainer.errors import UserError
from trainer.huggingface.load import load_params, read_source
from trainer.model import Params
from trainer.restored import params_at
from trainer.trained import of_model
from vishwamai.contract.resolved import ResolvedJob, Teacher

_TABLES = ("embedding", "head")


def load_teacher(job: ResolvedJob, mesh: Mesh) -> Params:
    """The parameters of the job's teacher on the mesh, in its number formats.

    Raises UserError when they cannot be read or are not what the folder says.
    """
    teacher = job.teacher
    assert teacher is not None
    folder = Path(teacher.folder)
    try:
        params = _imported(folder, teacher) if teacher.kind == "huggingface" else _of_run(job, mesh, teacher)
    except UserError as error:
        raise UserError(f"distillation.teacher_model: {error}") from error
    words = teacher.model.vocab_size
    params = {name: tree[:words] if name in _TABLES else tree for name, tree in params.items()}
    params = keep_teacher(job, mesh, params)
    _check_numbers(params, teacher)
    return params


def _imported(folder: Path, teacher: Teacher) -> Params:
    return load_params(read_source(folder, teacher.model.max_seq_len))


def _of_run(job: ResolvedJob, mesh: Mesh, teacher: Teacher) -> Params:
    folder = Path(teacher.folder)
    theirs = place_of(folder, teacher.model.max_seq_len).run
    if theirs is None:
        raise UserError(f"{teacher.folder!r} holds no run any more: start again")
    # Restored on this job's devices: the run's own may be others.
    here = theirs.model_copy(update={"mesh": job.mesh, "hardware": job.hardware, "execution": job.execution})
    return of_model(params_at(here, mesh, folder, teacher.step)[0])


def _check_numbers(params: Params, teacher: Teacher) -> None:
    """Raises UserError when weights are infinite or no numbers, in the type that they are kept in."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    finite = jax.jit(lambda xs: [jnp.isfinite(x.astype(jnp.float32)).all() for x in xs])([x for _, x in leaves])
    bad = [path for (path, _), sound in zip(leaves, jax.device_get(finite), strict=True) if not sound]
    if bad:
        named = ", ".join(jax.tree_util.keystr(path, simple=True, separator=".") for path in bad[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise UserError(
            f"distillation.teacher_model {teacher.folder!r} has weights that are no finite {teacher.dtype} numbers: "
            f"{named}{more}: name another checkpoint"
        )


def fingerprint(params: Params) -> str:
    """16 hexadecimal digits that differ when any weight does; the same on every mesh.

    Each number's bits are multiplied by an odd factor of its place and added up modulo 2^32, which is the same in any
    order.
    """
    sums = jax.jit(lambda leaves: [_checksum(leaf) for leaf in leaves])(jax.tree.leaves(params))
    return _mixed([int(one) for one in jax.device_get(sums)])


def _checksum(x: jax.Array) -> jax.Array:
    bits: Any = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
    place = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    return jnp.sum((bits.astype(jnp.uint32) + 1) * (place * jnp.uint32(2654435762) + 1), dtype=jnp.uint32)


def _mixed(numbers: Sequence[int]) -> str:
    mixed = 0xCBF29CE484222325
    for number in numbers:
        mixed = ((mixed ^ number) * 0x100000001B3) % 2**64
    return f"{mixed:016x}"
