import json
import re
import shutil

import pytest

from tests.trainer.distill.teachers import student_of
from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.jobs import tiny_job
from trainer.distill.load import fingerprint, load_teacher
from trainer.distill.teacher import find_teacher, layer_pairs
from trainer.errors import UserError
from trainer.mesh import make_mesh
from trainer.restored import params_at
from vishwamai.contract.config import DistillationSection
from vishwamai.contract.load import check_config
from vishwamai.contract.resolution.memory import Work, estimate
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import SiteDefaults

TOKENS = {"tokenizer": str(FOLDER / "llama" / "tokenizer.json")}


def test_a_run_its_checkpoints_and_one_of_them_name_the_same_teacher(teacher):
    for folder, step in ((teacher, None), (teacher / "checkpoints", None), (teacher / "checkpoints" / "4", 4)):
        found = student_of(folder).teacher
        assert found is not None
        assert (found.kind, found.folder, found.step) == ("run", str(teacher), step)
        assert (found.model.num_layers, found.model.hidden_dim, found.model.dropout_rate) == (3, 32, 0.0)


def test_what_else_is_in_a_runs_folder_is_not_taken_for_the_run(teacher, tmp_path):
    output = shutil.copytree(teacher, tmp_path / "run", ignore=shutil.ignore_patterns("compiled"))
    shutil.copytree(FOLDER / "llama", output / "export")
    found = student_of(output / "export", model={"vocab_size": 512}, data=TOKENS).teacher
    assert found is not None
    assert (found.kind, found.folder) == ("huggingface", str(output / "export"))
    with pytest.raises(UserError, match="prepared' holds neither"):
        student_of(output / "prepared")


def test_checkpoints_whose_run_is_elsewhere_are_a_teacher(teacher, tmp_path):
    kept = shutil.copytree(teacher / "checkpoints", tmp_path / "kept")
    wanted = student_of(teacher / "checkpoints" / "4")
    for folder, step in ((kept, None), (kept / "4", 4)):
        job = student_of(folder)
        assert job.teacher is not None
        assert wanted.teacher is not None
        assert (job.teacher.kind, job.teacher.folder, job.teacher.step) == ("run", str(kept), step)
        assert job.teacher.model == wanted.teacher.model
    weights = [fingerprint(load_teacher(one, make_mesh(one))) for one in (job, wanted)]
    assert weights[0] == weights[1]


def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(teacher, tmp_path, caplog):
    kept = shutil.copytree(teacher / "checkpoints", tmp_path / "kept")
    newest = next(path for path in (kept / "6" / "state").rglob("*") if path.is_file() and path.stat().st_size > 100)
    with newest.open("r+b") as file:
        file.seek(50)
        file.write(b"\xff\xff")
    job = student_of(kept)
    load_teacher(job, make_mesh(job))
    assert "is damaged: that of step 4 is used" in caplog.text
    with pytest.raises(UserError, match=r"asks for step 6, .* committed steps \((2, )?4\)"):
        load_teacher(student_of(kept / "6"), make_mesh(job))


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_a_teacher_whose_weights_are_no_numbers_is_refused(teacher, monkeypatch, dtype):
    def broken(*given):
        params, step = params_at(*given)
        weight = params["blocks"]["mlp"]["up"]
        params["blocks"]["mlp"]["up"] = weight.at[1, 0, 0].set(float("inf"))
        return params, step

    monkeypatch.setattr("trainer.distill.load.params_at", broken)
    job = student_of(teacher, section={"teacher_dtype": dtype})
    with pytest.raises(UserError, match=r"^distillation\.teacher_model .* no finite \w+ numbers: blocks\.mlp\.up"):
        load_teacher(job, make_mesh(job))


def test_a_checkpoint_of_before_configs_were_kept_needs_its_run(teacher, tmp_path):
    kept = shutil.copytree(teacher / "checkpoints", tmp_path / "kept")
    for extra in kept.glob("*/extra/metadata"):
        extra.write_text("{}")
    with pytest.raises(
        UserError, match=r"^distillation\.teacher_model: .* no config beside them: name the run's folder"
    ):
        student_of(kept)


def test_a_hugging_face_folder_is_a_teacher():
    job = student_of(FOLDER / "llama", model={"vocab_size": 512, "max_seq_len": 48}, data=TOKENS)
    assert job.teacher is not None
    assert (job.teacher.kind, job.teacher.model.family) == ("huggingface", "llama")
    assert job.teacher.layers == [(1, 2), (2, 3)]
    mapping = next(d for d in job.decisions if d.setting == "distillation.intermediate_layer_mapping")
    assert mapping.why == "1 follows 2, 2 follows 3; projected from 32 to 64"


def test_words_that_the_student_lacks_are_cut_off_and_fewer_are_compared_by_rank():
    for words, expected in ((400, 400), (512, 512), (600, 512)):
        job = student_of(FOLDER / "llama", model={"vocab_size": words}, data=TOKENS)
        assert job.teacher is not None
        assert job.teacher.model.vocab_size == expected
        changed = [d.effective for d in job.decisions if d.setting == "distillation.divergence"]
        assert changed == (["uld"] if words == 600 else [])


@pytest.mark.parametrize(
    ("mapping", "pairs"),
    [
        ("uniform", [(1, 3), (2, 6), (3, 9), (4, 12)]),
        ("last", [(4, 12)]),
        ([[1, 1], [3, 12]], [(1, 1), (3, 12)]),
    ],
)
def test_which_layers_follow_which(mapping, pairs):
    assert layer_pairs(DistillationSection(intermediate_layer_mapping=mapping), 4, 12) == pairs


def test_uniform_ends_with_the_last_layers_whichever_is_deeper():
    for student, teacher in ((1, 7), (7, 1), (5, 7), (7, 5)):
        pairs = layer_pairs(DistillationSection(), student, teacher)
        assert pairs[-1] == (student, teacher)
        assert [i for i, _ in pairs] == list(range(1, student + 1))
        assert all(1 <= j <= teacher for _, j in pairs)


def test_nothing_is_compared_when_it_weighs_nothing():
    for off in ({"use_intermediate_distillation": False}, {"hidden_weight": 0.0}):
        assert layer_pairs(DistillationSection.model_validate(off), 4, 12) == []


def test_a_layer_that_does_not_exist():
    section = DistillationSection(intermediate_layer_mapping=[[1, 12], [2, 13]])
    with pytest.raises(UserError, match=r"names teacher layer 13, and the teacher has 12 layers"):
        layer_pairs(section, 4, 12)


def folder_with(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds neither a Hugging Face config.json nor the resolved.json of a run"),
        ({"config.json": "{"}, "config.json"),
        ({"config.json": json.dumps({"model_type": "bert"})}, "bert"),
        ({"resolved.json": "{}"}, "is not a resolved job"),
    ],
)
def test_a_folder_that_is_no_teacher(tmp_path, files, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        student_of(folder_with(tmp_path, files))
    assert str(caught.value).startswith("distillation.teacher_model")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere' is not a folder"):
        student_of(tmp_path / "nowhere")


def test_a_mesh_that_cannot_split_the_teacher():
    with pytest.raises(UserError, match=r"model of 4 does not divide the teacher's num_kv_heads 2; .* 1 or 2 would"):
        student_of(FOLDER / "llama", mesh={"model": 4})


def on_a_tpu(width, layers, tmp_path, teacher_dtype=None):
    """A tiny student on eight v5e devices, beside a llama of this size."""
    config = json.loads((FOLDER / "llama" / "config.json").read_text())
    config |= {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 4 * width}
    config |= {"num_attention_heads": width // 128, "num_key_value_heads": width // 128, "head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))
    wanted = {"teacher_model": str(tmp_path), "use_intermediate_distillation": False, "teacher_dtype": teacher_dtype}
    document = {
        "model": {"vocab_size": 512, "hidden_dim": 256, "num_layers": 2, "num_heads": 4, "max_seq_len": 128},
        "sequence": {"max_length": 128},
        "tpu": {"accelerator": "v5e", "tpu_topology": "2x4", "mesh_shape": {"fsdp": 8}},
        "distillation": wanted,
    }
    return resolve(check_config(document), SiteDefaults(platform="tpu"))


def test_a_teacher_too_large_for_the_mesh_names_one_that_would_do(tmp_path):
    job = on_a_tpu(8192, 100, tmp_path)
    with pytest.raises(UserError, match=r"the teacher takes [\d.]+ GiB and the student") as caught:
        find_teacher(job)
    offered = re.search(r"a mesh of fsdp (\d+) \(tpu.tpu_cores (\d+)\) would do", str(caught.value))
    assert offered is not None
    devices = int(offered[1])
    assert devices > 8
    assert offered[1] == offered[2]
    # What it names fits, and half of it does not.
    mesh = job.mesh.model_copy(update={"fsdp": devices})
    wide = find_teacher(job.model_copy(update={"mesh": mesh}))
    assert estimate(Work.of(wide)).fits
    half = job.mesh.model_copy(update={"fsdp": devices // 2})
    with pytest.raises(UserError, match="would do"):
        find_teacher(job.model_copy(update={"mesh": half}))


def test_a_teacher_that_eight_bits_would_fit_is_told_so(tmp_path):
    with pytest.raises(UserError, match=r"distillation\.teacher_dtype int8 would do, a mesh of fsdp 16"):
        find_teacher(on_a_tpu(4096, 256, tmp_path, "bfloat16"))
    assert estimate(Work.of(find_teacher(on_a_tpu(4096, 256, tmp_path, "int8")))).fits


def test_a_teacher_that_fits_is_counted(tmp_path):
    job = on_a_tpu(1024, 4, tmp_path)
    found = find_teacher(job)
    assert estimate(Work.of(found)).teacher > 0
    assert estimate(Work.of(job)).teacher == 0


def test_eight_bits_make_room_for_a_larger_teacher(tmp_path):
    needs = {}
    for kept in ("float32", "bfloat16", "int8", "float8_e4m3fn"):
        job = on_a_tpu(4096, 64, tmp_path, teacher_dtype=kept)
        needs[kept] = estimate(Work.of(find_teacher(job)))
    layer = (4 + 3 * 4) * 4096**2
    layers = 64 * layer / 8
    # Two layers at work are whole, in the compute type in any case, and the eight bits they are made of come on top.
    assert needs["float32"].teacher - needs["bfloat16"].teacher == pytest.approx(2 * layers, rel=0.01)
    assert needs["bfloat16"].teacher - needs["int8"].teacher == pytest.approx(layers - 2 * layer, rel=0.01)
    assert needs["int8"] == needs["float8_e4m3fn"]


def test_a_job_without_a_teacher_stays_as_it_is():
    job = tiny_job()
    assert find_teacher(job) is job
