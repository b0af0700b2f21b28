"""The teacher that a config names: where it is, what model it is, and whether this mesh can hold it.

Reads no weights and needs no JAX, so that what is wrong is said before anything is started.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from trainer.errors import UserError
from trainer.huggingface.load import read_source
from vishwamai.contract.config import DistillationSection, ModelSection
from vishwamai.contract.resolution.attention import AttentionWork, attention_choice
from vishwamai.contract.resolution.lowering import in_bytes
from vishwamai.contract.resolution.memory import Work, estimate
from vishwamai.contract.resolved import Decision, ResolvedJob, Teacher

_LOG = logging.getLogger(__name__)
_SETTING = "distillation.teacher_model"
_MAPPING = "distillation.intermediate_layer_mapping"
_MOST_DEVICES = 8192


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a teacher's weights are; a run's job says what they are."""

    folder: Path
    model: ModelSection
    run: ResolvedJob | None = None
    step: int | None = None


def find_teacher(job: ResolvedJob) -> ResolvedJob:
    """The job with its teacher, and with decisions about what is followed; the same job if it has none.

    Raises UserError: no such teacher, not a model that is supported, layers that do not exist, a mesh that cannot
    split it, or devices too small for it.
    """
    section = job.effective.distillation
    if section is None:
        return job
    place = _place(Path(section.teacher_model).expanduser(), job.effective.model.max_seq_len)
    model = _as_taught(place.model, job)
    _check_split(model, job)
    layers = layer_pairs(section, job.effective.model.num_layers, model.num_layers)
    teacher = Teacher(
        kind="huggingface" if place.run is None else "run",
        folder=str(place.folder),
        step=place.step,
        model=model,
        dtype=section.teacher_dtype or job.precision.compute,
        attention=attention_choice(_attention_work(job, model), job.execution.attention_block).kind,
        weight_gather=job.execution.weight_gather,
        layers=layers,
    )
    # Resolution could not know the pairs.
    decisions = [one for one in job.decisions if one.setting != _MAPPING] + list(_decisions(teacher, job))
    found = job.model_copy(update={"teacher": teacher, "decisions": decisions})
    if not estimate(Work.of(found)).fits:
        by_layer = teacher.model_copy(update={"weight_gather": "layer"})
        found = found.model_copy(update={"teacher": by_layer})
    _check_memory(found)
    return found


def layer_pairs(section: DistillationSection, student: int, teacher: int) -> list[tuple[int, int]]:
    """Which layers' outputs are compared, [student, teacher] numbers from 1.

    uniform: layer i of `student` layers follows the teacher's at the same share of its depth, rounded up, so that the
    last follows the last. Raises UserError for a pair that names a teacher layer beyond its depth.
    """
    if not (section.use_intermediate_distillation and section.hidden_weight):
        return []
    mapping = section.intermediate_layer_mapping
    if mapping == "last":
        return [(student, teacher)]
    if mapping == "uniform":
        return [(i, -(-i * teacher // student)) for i in range(1, student + 1)]
    pairs = [(pair[0], pair[1]) for pair in mapping]
    for name, at, depth in (("student", 0, student), ("teacher", 1, teacher)):
        if beyond := sorted({pair[at] for pair in pairs if pair[at] > depth}):
            listed = ", ".join(map(str, beyond))
            raise UserError(
                f"{_MAPPING} names {name} layer {listed}, and the {name} has {depth} "
                f"layers: name layers from 1 to {depth}"
            )
    return pairs


def _place(folder: Path, window: int) -> _Place:
    if not folder.is_dir():
        raise UserError(f"{_SETTING} {str(folder)!r} is not a folder: name one that holds a checkpoint or a run")
    for output, step in _runs_above(folder):
        if (output / "resolved.json").is_file():
            return _of_run(output, step)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{_SETTING} {str(folder)!r} holds neither a Hugging Face config.json nor the resolved.json of a run"
        )
    try:
        return _Place(folder, read_source(folder, window).model)
    except UserError as error:
        raise UserError(f"{_SETTING}: {error}") from error


def _runs_above(folder: Path) -> Iterator[tuple[Path, int | None]]:
    """A run's output may be named by itself, by its folder of checkpoints, or by one checkpoint."""
    yield folder, None
    yield folder.parent, None
    if folder.name.isdecimal():
        yield folder.parent.parent, int(folder.name)


def _of_run(output: Path, step: int | None) -> _Place:
    path = output / "resolved.json"
    try:
        run = ResolvedJob.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{_SETTING}: {str(path)!r} is not a resolved job: {error}") from error
    except OSError as error:
        raise UserError(f"{_SETTING}: cannot read {str(path)!r}: {error.strerror}") from error
    return _Place(output, run.effective.model, run, step)


def _as_taught(model: ModelSection, job: ResolvedJob) -> ModelSection:
    """The teacher on the student's windows, without dropout, and without words that the student lacks."""
    student = job.effective.model
    if model.max_seq_len < student.max_seq_len:
        lengths = model.max_seq_len, student.max_seq_len
        _LOG.warning("the teacher was made for windows of %d tokens, and is asked about %d", *lengths)
    words = min(model.vocab_size, student.vocab_size)
    without = {"max_seq_len": student.max_seq_len, "dropout_rate": 0.0, "attention_dropout_rate": 0.0}
    return model.model_copy(update=without | {"vocab_size": words})


def _attention_work(job: ResolvedJob, model: ModelSection) -> AttentionWork:
    return AttentionWork(
        platform=job.hardware.platform,
        generation=job.hardware.accelerator,
        compute=job.precision.compute,
        head_dim=model.head_dim,
        length=model.max_seq_len,
        softcap=model.attention_softcap,
        dropout_rate=0.0,
        sequence_parts=job.mesh.sequence,
    )


def _check_split(model: ModelSection, job: ResolvedJob) -> None:
    axis = job.mesh.model
    sizes = {"num_heads": model.num_heads, "num_kv_heads": model.kv_heads, "mlp_dim": model.mlp_dim}
    for name, size in sizes.items():
        if size % axis:
            fitting = [str(n) for n in range(1, axis) if all(other % n == 0 for other in sizes.values())]
            raise UserError(
                f"{_SETTING}: mesh axis model of {axis} does not divide the teacher's {name} {size}; "
                f"tpu.mesh_shape.model {' or '.join(fitting)} would do"
            )


def _decisions(teacher: Teacher, job: ResolvedJob) -> Iterator[Decision]:
    section, student = job.effective.distillation, job.effective.model
    assert section is not None
    what = f"{teacher.model.family} of {teacher.model.num_layers} layers, {teacher.model.hidden_dim} wide"
    yield Decision(setting=_SETTING, requested=section.teacher_model, effective=teacher.folder, why=f"holds a {what}")
    pairs = ", ".join(f"{own} follows {other}" for own, other in teacher.layers)
    wide = f"; projected from {student.hidden_dim} to {teacher.model.hidden_dim}"
    yield Decision(
        setting=_MAPPING,
        requested=section.intermediate_layer_mapping,
        effective=[list(pair) for pair in teacher.layers],
        why=(pairs or "no hidden states are compared") + (wide if teacher.projects(student.hidden_dim) else ""),
    )
    if teacher.model.vocab_size != student.vocab_size:
        why = (
            f"the teacher has {teacher.model.vocab_size} words and the student {student.vocab_size}: sorted ones match"
        )
        _LOG.warning("distillation.divergence is uld: %s", why)
        yield Decision(setting="distillation.divergence", requested=section.divergence, effective="uld", why=why)


def _check_memory(job: ResolvedJob) -> None:
    """Raises UserError on a TPU whose devices are too small by the estimate; elsewhere the estimate says nothing."""
    work = Work.of(job)
    need = estimate(work)
    if job.hardware.platform != "tpu" or need.fits:
        return
    alone = estimate(replace(work, teacher=None))
    wider = _larger_mesh(work)
    larger = f"a mesh of {wider} would do" if wider else "no mesh would do by splitting weights alone"
    if _fits_in_eight_bits(work):
        larger = f"distillation.teacher_dtype int8 would do, {larger}"
    raise UserError(
        f"{_SETTING}: with its teacher a device needs {in_bytes(need.total)} by the estimate, of which the teacher "
        f"takes {in_bytes(need.teacher)} and the student {in_bytes(alone.total)}, and {job.hardware.accelerator} has "
        f"{in_bytes(need.available)} to use: {larger}, or take a smaller teacher"
    )


def _fits_in_eight_bits(work: Work) -> bool:
    """Whether it is the teacher's number format that is too large."""
    if work.teacher is None or work.teacher.eight_bit is not None:
        return False
    return estimate(replace(work, teacher=work.teacher.model_copy(update={"dtype": "int8"}))).fits


def _larger_mesh(work: Work) -> str | None:
    """The least mesh of whole doublings whose weights' axis holds student and teacher."""
    axis = work.execution.weight_axes[0] if work.execution.weight_axes else "fsdp"
    devices = work.mesh.devices
    execution = work.execution.model_copy(update={"weight_axes": [axis], "weight_gather": "layer"})
    parts = getattr(work.mesh, axis)
    while devices <= _MOST_DEVICES:
        mesh = work.mesh.model_copy(update={axis: parts})
        if estimate(replace(work, mesh=mesh, execution=execution)).fits:
            sizes = " x ".join(f"{name} {size}" for name, size in mesh.model_dump().items() if size > 1)
            return f"{sizes} (tpu.tpu_cores {mesh.devices})"
        parts, devices = 2 * parts, 2 * devices
    return None
