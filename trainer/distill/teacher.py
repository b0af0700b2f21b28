"""The teacher that a config names: where it is, what model it is, and whether this mesh can hold it.

Reads no weights and needs no JAX, so that what is wrong is said before anything is started.
"""

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from trainer.distill.cached import find_cache
from trainer.distill.tokens import Two, classes_for, find_two
from trainer.errors import UserError
from trainer.huggingface.load import read_source
from trainer.kept_job import kept_job
from vishwamai.contract.config import DistillationSection, ModelSection
from vishwamai.contract.resolution.attention import AttentionWork, attention_choice
from vishwamai.contract.resolution.cache import writes_cache
from vishwamai.contract.resolution.lowering import in_bytes
from vishwamai.contract.resolution.memory import Work, estimate
from vishwamai.contract.resolved import Decision, OtherTokens, ResolvedJob, Teacher

_LOG = logging.getLogger(__name__)
_SETTING = "distillation.teacher_model"
_MAPPING = "distillation.intermediate_layer_mapping"
_DIVERGENCE = "distillation.divergence"
_WINDOW = "distillation.teacher_seq_len"
_MOST_DEVICES = 8192
_EXTRA = "extra/metadata"
"""What a checkpoint keeps beside its arrays, docs/checkpoints.md."""
_ROOM = 1.1
"""Of a teacher's window over what a sample needs."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a teacher's weights are; a run's job says what they are."""

    folder: Path
    model: ModelSection
    run: ResolvedJob | None = None
    step: int | None = None


def find_teacher(job: ResolvedJob) -> ResolvedJob:
    """The job with its teacher or its cache, and with decisions about what is followed; the same job if it has none.

    Raises UserError: no such teacher, not a model that is supported, layers that do not exist, a mesh that cannot
    split it, or devices too small for it.
    """
    section = job.effective.distillation
    if section is None:
        return job
    if section.cache and not writes_cache(job.effective):
        return find_cache(job, section.cache)
    place = place_of(Path(section.teacher_model).expanduser(), job.effective.model.max_seq_len)
    _check_split(place.model, job)
    two = find_two(job, place.folder, place.run, place.model.vocab_size)
    model = _as_taught(place.model, job) if two is None else _as_retold(place.model, job, two)
    if writes_cache(job.effective):
        _check_words(model, job, two)
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
        tokens=None if two is None else _other_tokens(job, two, model.vocab_size),
    )
    # Resolution could not know the pairs.
    decisions = [one for one in job.decisions if one.setting != _MAPPING] + list(_decisions(teacher, job))
    return _fitted(job.model_copy(update={"teacher": teacher, "decisions": decisions}))


def with_window(job: ResolvedJob, longest: int) -> ResolvedJob:
    """The job with a window for its teacher that has room for the tokens of the longest window seen."""
    assert job.teacher is not None
    length = _rounded(longest * _ROOM, job)
    model = job.teacher.model.model_copy(update={"max_seq_len": length})
    attention = attention_choice(_attention_work(job, model), job.execution.attention_block).kind
    teacher = job.teacher.model_copy(update={"model": model, "attention": attention})
    return _fitted(job.model_copy(update={"teacher": teacher}))


def _fitted(job: ResolvedJob) -> ResolvedJob:
    """The job with its teacher's weights gathered by layer if memory asks for it. Raises UserError as _check_memory."""
    assert job.teacher is not None
    if not estimate(Work.of(job)).fits:
        job = job.model_copy(update={"teacher": job.teacher.model_copy(update={"weight_gather": "layer"})})
    _check_memory(job)
    return job


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


def place_of(folder: Path, window: int) -> Place:
    """What is in a teacher's folder. Raises UserError when it is no model that this release knows."""
    if not folder.is_dir():
        raise UserError(f"{_SETTING} {str(folder)!r} is not a folder: name one that holds a checkpoint or a run")
    if (folder / "resolved.json").is_file():
        return _of_run(folder, None)
    if (folder / "config.json").is_file():
        return _of_hugging_face(folder, window)
    if found := _of_checkpoints(folder):
        return found
    raise UserError(
        f"{_SETTING} {str(folder)!r} holds neither a Hugging Face config.json nor the resolved.json of a run, nor "
        "checkpoints: name a folder that does"
    )


def _of_hugging_face(folder: Path, window: int) -> Place:
    try:
        return Place(folder, read_source(folder, window).model)
    except UserError as error:
        raise UserError(f"{_SETTING}: {error}") from error


def _of_checkpoints(folder: Path) -> Place | None:
    """The run whose folder of checkpoints, or one checkpoint of it, this is; None when it is neither.

    A checkpoint whose run's folder is elsewhere says itself what it is of.
    """
    step = int(folder.name) if folder.name.isdecimal() and (folder / _EXTRA).is_file() else None
    directory = folder if step is None else folder.parent
    if (directory.parent / "resolved.json").is_file():
        place = _of_run(directory.parent, step)
        assert place.run is not None
        elsewhere = place.run.effective.checkpoint.directory
        if directory.absolute() == Path(elsewhere or place.folder / "checkpoints").absolute():
            return place
    kept = {
        int(path.parents[1].name): path for path in directory.glob(f"*/{_EXTRA}") if path.parents[1].name.isdecimal()
    }
    if not kept:
        return None
    path = kept[max(kept) if step is None else step]
    try:
        run = kept_job(json.loads(path.read_bytes()), str(directory))
    except (UserError, ValueError, OSError) as error:
        raise UserError(f"{_SETTING}: {str(path)!r} cannot be used: {error}") from error
    return Place(directory, run.effective.model, run, step)


def _of_run(output: Path, step: int | None) -> Place:
    path = output / "resolved.json"
    try:
        run = ResolvedJob.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{_SETTING}: {str(path)!r} is not a resolved job: {error}") from error
    except OSError as error:
        raise UserError(f"{_SETTING}: cannot read {str(path)!r}: {error.strerror}") from error
    return Place(output, run.effective.model, run, step)


def _as_taught(model: ModelSection, job: ResolvedJob) -> ModelSection:
    """The teacher on the student's windows, without dropout, and without words that the student lacks."""
    student = job.effective.model
    if model.max_seq_len < student.max_seq_len:
        lengths = model.max_seq_len, student.max_seq_len
        _LOG.warning("the teacher was made for windows of %d tokens, and is asked about %d", *lengths)
    words = min(model.vocab_size, student.vocab_size)
    without = {"max_seq_len": student.max_seq_len, "dropout_rate": 0.0, "attention_dropout_rate": 0.0}
    return model.model_copy(update=without | {"vocab_size": words})


def _as_retold(model: ModelSection, job: ResolvedJob, two: Two) -> ModelSection:
    """The teacher on windows of its own tokens, without dropout.

    Raises UserError for a sequence axis: where a window is split, a student's token and the teacher's beside it would
    be on two devices.
    """
    if job.mesh.sequence > 1:
        raise UserError(
            f"{_SETTING}: the teacher reads text as other tokens than data.tokenizer {two.student.name!r} makes, and "
            f"the two cannot be aligned on a mesh whose axis sequence is {job.mesh.sequence}: set "
            "tpu.mesh_shape.sequence to 1, or data.tokenizer to the teacher's"
        )
    section, window = job.effective.distillation, job.effective.model.max_seq_len
    assert section is not None
    length = section.teacher_seq_len or _rounded(window * two.ratio * _ROOM, job)
    if model.max_seq_len < length:
        _LOG.warning("the teacher was made for windows of %d tokens, and is given %d", model.max_seq_len, length)
    without = {"max_seq_len": length, "dropout_rate": 0.0, "attention_dropout_rate": 0.0}
    return model.model_copy(update=without)


def _rounded(tokens: float, job: ResolvedJob) -> int:
    """Up to whole tiles of the kernels if the student's window has them."""
    tile = 128 if job.effective.model.max_seq_len % 128 == 0 else 16
    return tile * math.ceil(tokens / tile)


def _other_tokens(job: ResolvedJob, two: Two, words: int) -> OtherTokens:
    classes, theirs = classes_for(job, two, words), two.teacher
    return OtherTokens(
        tokenizer=theirs.name,
        eos_token_id=theirs.eos_id,
        pad_token_id=theirs.pad_id,
        shared=classes.shared,
        alone=classes.alone,
    )


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


def _check_words(model: ModelSection, job: ResolvedJob, two: Two | None) -> None:
    """Raises UserError when a teacher has other or fewer words than its student: a cache compares word by word."""
    if two is not None:
        raise UserError(
            f"{_SETTING}: the teacher reads text as other tokens than data.tokenizer {two.student.name!r} makes, and a "
            "cache compares word by word: set data.tokenizer to the teacher's, or leave out distillation.cache, so "
            "that the teacher runs beside the student"
        )
    words = job.effective.model.vocab_size
    if model.vocab_size < words:
        raise UserError(
            f"{_SETTING}: the teacher has {model.vocab_size} words and model.vocab_size is {words}, and a cache "
            "compares word by word: set model.vocab_size to the teacher's, or leave out distillation.cache, so that "
            "the teacher runs beside the student"
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
    yield from _of_tokens(teacher, job)
    if teacher.tokens is None and teacher.model.vocab_size != student.vocab_size:
        why = (
            f"the teacher has {teacher.model.vocab_size} words and the student {student.vocab_size}: sorted ones match"
        )
        _LOG.warning("distillation.divergence is uld: %s", why)
        yield Decision(setting=_DIVERGENCE, requested=section.divergence, effective="uld", why=why)


def _of_tokens(teacher: Teacher, job: ResolvedJob) -> Iterator[Decision]:
    section, asked, other = job.effective.distillation, job.requested.get("distillation") or {}, teacher.tokens
    assert section is not None
    if other is None:
        for name in ("unshared_tokens", "teacher_seq_len"):
            if asked.get(name) is not None:
                why = "not used: the teacher reads the student's own tokens"
                yield Decision(setting=f"distillation.{name}", requested=asked[name], effective=asked[name], why=why)
        return
    sizes = job.effective.model.vocab_size, teacher.model.vocab_size
    why = (
        f"the teacher reads text as other tokens ({other.tokenizer!r}) than the student: they are compared where both "
        f"have read the same bytes, by the {other.shared} tokens that both have; of {sizes[0]} and {sizes[1]}, "
        f"{other.alone[0]} and {other.alone[1]} are compared by rank alone (universal logit distillation)"
    )
    _LOG.warning("%s; at all other places the student learns from the text alone", why)
    yield Decision(setting=_DIVERGENCE, requested=section.divergence, effective=section.divergence, why=why)
    length = teacher.model.max_seq_len
    why = "as asked" if section.teacher_seq_len else "by texts of many scripts; the run measures its own windows anew"
    yield Decision(setting=_WINDOW, requested=section.teacher_seq_len, effective=length, why=why)


def _check_memory(job: ResolvedJob) -> None:
    """Raises UserError on a TPU whose devices are too small by the estimate; elsewhere the estimate says nothing."""
    work = Work.of(job)
    need = estimate(work)
    if job.hardware.platform != "tpu" or need.fits:
        return
    if writes_cache(job.effective) and need.teacher <= need.available:
        return  # there is no student beside it
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
