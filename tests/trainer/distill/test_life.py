"""Whole lives beside a teacher: what is told, saved, resumed, written and exported; and teachers that are no use."""

import json
import os
import shutil

import numpy as np
import pytest

from tests.trainer.distill.teachers import MODEL
from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.run.lives import Observer, live, small_job
from trainer.generate.command import generate
from trainer.generate.origin import find_origin
from trainer.huggingface.command import export
from trainer.huggingface.load import load_params, read_source
from vishwamai.contract.generation import GenerateRequest
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import Cause

PARTS = {"ce", "kl", "hidden", "teacher_loss", "agreement"}


def student(folder, teacher, *, steps=6, **sections):
    wanted = {"training": {"max_steps": steps, "batch_size": 4}, "distillation": {"teacher_model": str(teacher)}}
    return small_job(folder, **wanted | sections)


def rows(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_run_beside_a_teacher_tells_and_keeps_what_it_followed(teacher, tmp_path):
    seen, exportable = Observer(), {"model": {"activation": "swiglu"}}
    assert live(student(tmp_path, teacher, **exportable), tmp_path / "out", seen) == 0
    (effective,) = seen.of("effective")
    told = effective.settings["teacher"]
    assert (told["folder"], told["kind"], told["layers"]) == (str(teacher), "run", [[1, 3]])
    steps = [row for row in rows(tmp_path / "out") if row["kind"] == "step"]
    assert all(row["parts"].keys() == PARTS for row in steps)
    assert all(0 <= row["parts"]["agreement"] <= 1 for row in steps)
    weights = {"kl": 0.5, "ce": 0.5, "hidden": 0.1}
    for row in steps:
        assert row["loss"] == pytest.approx(sum(w * row["parts"][name] for name, w in weights.items()), rel=1e-5)
    # Evaluated is the student alone, by cross-entropy.
    assert all("parts" not in row for row in rows(tmp_path / "out") if row["kind"] == "eval")
    job = ResolvedJob.model_validate_json((tmp_path / "out" / "resolved.json").read_bytes())
    assert job.teacher is not None
    (why,) = (d.why for d in job.decisions if d.setting == "distillation.intermediate_layer_mapping")
    assert why == "1 follows 3; projected from 16 to 32"

    # Going on from the middle is the same course to the last bit.
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "6")
    before = steps
    resumed = Observer()
    assert live(student(tmp_path, teacher, **exportable), tmp_path / "again", resumed, attempt=2) == 0
    after = [row for row in rows(tmp_path / "again") if row["kind"] == "step"]
    assert [(row["step"], row["loss"], row["parts"]) for row in after] == [
        (row["step"], row["loss"], row["parts"]) for row in before
    ]
    assert not any("another teacher" in event.message for event in resumed.of("log"))

    # The projection stays behind: in texts, and in what is exported.
    asked = GenerateRequest(prompts=["line 7"], max_new_tokens=3, min_length=3)
    (written,) = generate(find_origin(tmp_path / "out", "cpu", None), asked).texts
    assert written.new_tokens == 3
    export(str(tmp_path / "out"), tmp_path / "exported", step=None, dtype=None, max_shard_bytes=10**9)
    exported = load_params(read_source(tmp_path / "exported"))
    assert "projection" not in exported
    assert exported["embedding"].shape == (258, 16)


def test_a_hugging_face_teacher_whose_tokenizer_the_student_has(tmp_path):
    golden = FOLDER / "llama"
    job = student(
        tmp_path,
        golden,
        steps=3,
        model={"vocab_size": 512, "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "head_dim": 8, "mlp_dim": 32},
        data={"tokenizer": str(golden / "tokenizer.json"), "train": [str(tmp_path / "corpus.txt")]},
        sequence={"eos_token_id": 1, "pad_token_id": 0, "max_length": 32},
        logging={"eval_every": 0, "log_every": 1},
        distillation={"teacher_model": str(golden), "divergence": "jsd", "teacher_dtype": "int8"},
    )
    seen = Observer()
    assert live(job, tmp_path / "out", seen) == 0
    (effective,) = seen.of("effective")
    assert (effective.settings["teacher"]["kind"], effective.settings["teacher"]["dtype"]) == (
        "huggingface",
        "int8",
    )
    assert np.isfinite([row["loss"] for row in rows(tmp_path / "out")]).all()


def broken(folder, name):
    """A copy of the golden llama with one fault."""
    shutil.copytree(FOLDER / "llama", folder)
    if name == "weights":
        os.truncate(folder / "model.safetensors", 1000)
    elif name == "tokenizer":
        (folder / "tokenizer.json").unlink()
    elif name == "bad tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    return folder


FAULTS = {
    "no tokenizer": ("tokenizer", {"vocab_size": 600}, "holds no tokenizer.json, and its vocabulary has another size"),
    "tokenizer that is none": ("bad tokenizer", {"vocab_size": 512}, "distillation.teacher_model: "),
    "cut off": ("weights", {"vocab_size": 512}, "distillation.teacher_model: "),
}


@pytest.mark.parametrize(("fault", "model", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_teacher_of_no_use_ends_the_run_before_its_first_step(tmp_path, fault, model, words):
    sections = {"model": MODEL | model}
    if fault == "weights":
        tokens = str(FOLDER / "llama" / "tokenizer.json")
        sections["data"] = {"tokenizer": tokens, "train": [str(tmp_path / "corpus.txt")]}
        sections["sequence"] = {"eos_token_id": 1, "pad_token_id": 0, "max_length": 32}
    job = student(tmp_path, broken(tmp_path / "teacher", fault), **sections)
    seen = Observer()
    assert live(job, tmp_path / "out", seen) == 2
    assert seen.finished.cause is Cause.USER_ERROR
    assert words in seen.finished.message
    assert seen.of("step") == []


def test_a_run_without_checkpoints_is_no_teacher(teacher, tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir()
    shutil.copy(teacher / "resolved.json", folder)
    seen = Observer()
    assert live(student(tmp_path, folder), tmp_path / "out", seen) == 2
    assert "holds no checkpoints" in seen.finished.message


def test_another_teacher_than_before_is_said(teacher, tmp_path):
    seen = Observer()
    one = student(tmp_path, teacher / "checkpoints" / "4", steps=3, logging={"eval_every": 0})
    assert live(one, tmp_path / "out", seen) == 0
    two = student(tmp_path, teacher, steps=4, logging={"eval_every": 0})
    seen = Observer()
    assert live(two, tmp_path / "out", seen, attempt=2) == 0
    assert any("step 3 was trained with another teacher" in event.message for event in seen.of("log"))


def test_a_run_is_not_its_own_teacher(teacher):
    before, seen = (teacher / "resolved.json").read_bytes(), Observer()
    assert live(small_job(teacher.parent, distillation={"teacher_model": str(teacher)}), teacher, seen) == 2
    assert "is the output folder of this very run" in seen.finished.message
    assert (teacher / "resolved.json").read_bytes() == before
