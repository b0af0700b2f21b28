"""Whole lives beside a teacher of another tokenizer, and teachers that cannot be aligned."""

import json
import shutil

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, normalizers

from tests.trainer.data.tokenizer_files import byte_level
from tests.trainer.distill.teachers import student_of
from tests.trainer.distill.test_lesson import STUDENT, TRAINING
from tests.trainer.distill.test_life import rows, student
from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.run.lives import Observer, live
from trainer.data.loader import open_data
from trainer.distill.beside import open_beside
from trainer.distill.cross_lesson import abstract_classes
from trainer.distill.lessons import abstract_lesson
from trainer.distill.load import load_teacher
from trainer.distill.own_tokens import classes_on
from trainer.errors import UserError
from trainer.mesh import make_mesh
from trainer.step import init_state, make_train_step, put_batch

SECTION = {"alpha": 0.8, "temperature": 1.0, "hidden_weight": 0.01}


def test_a_byte_student_follows_a_teacher_of_subwords(tmp_path):
    seen = Observer()
    wanted = {"teacher_model": str(FOLDER / "llama"), **SECTION}
    job = student(tmp_path, FOLDER / "llama", steps=24, distillation=wanted, logging={"eval_every": 0})
    assert live(job, tmp_path / "out", seen) == 0
    steps = [row["parts"] for row in rows(tmp_path / "out")]
    assert all(parts.keys() == {"ce", "kl", "hidden", "teacher_loss", "agreement", "paired"} for parts in steps)
    # At most as many pairs as positions, and in this text of digits and short words most bytes end a token.
    assert all(0.4 < parts["paired"] < 1 for parts in steps)
    first, last = ([np.mean([parts["kl"] for parts in some])] for some in (steps[:4], steps[-4:]))
    assert last < 0.8 * first[0]
    (effective,) = seen.of("effective")
    told = effective.settings["teacher"]
    assert (told["tokens"]["shared"], told["tokens"]["alone"]) == (257, [1, 3])
    assert told["read"]["teacher_seq_len"] == told["model"]["max_seq_len"] >= told["read"]["longest"]
    assert any("compared where both have read the same bytes" in event.message for event in seen.of("log"))
    saved = json.loads((tmp_path / "out" / "resolved.json").read_text())
    settings = {one["setting"]: one["effective"] for one in saved["decisions"]}
    assert settings["distillation.divergence"] == "forward_kl"
    assert settings["distillation.teacher_seq_len"] >= 32


def first_step(job, folder):
    """Metrics of the first step; what it is given has the shapes that a plan of it would see."""
    mesh, data = make_mesh(job), open_data(job, folder)
    ids, beside = data.window_ids(1), open_beside(job, data)
    assert beside is not None
    batch = data.rows(ids)
    batch = put_batch(batch._replace(lesson=beside(ids, batch)), mesh)
    classes = classes_on(job, data, mesh)
    for made, planned in ((batch.lesson, abstract_lesson(job, mesh)), (classes, abstract_classes(job, mesh))):
        assert jax.tree.map(np.shape, made) == jax.tree.map(np.shape, planned)
    _, metrics = make_train_step(job, mesh)(init_state(job, mesh), batch, load_teacher(job, mesh), *classes)
    return jax.device_get(metrics)


def test_on_a_mesh_the_step_is_the_same(tmp_path):
    (tmp_path / "corpus.txt").write_text("line 12: 144 is 12 times 12, naïve café 🦊\n" * 40)
    found = []
    for mesh in ({}, {"data": 2, "fsdp": 2, "model": 2}):
        job = student_of(
            FOLDER / "llama",
            section=SECTION | {"unshared_tokens": "rank"},
            model=STUDENT | {"num_layers": 1},
            training=TRAINING,
            data={"train": [str(tmp_path / "corpus.txt")], "eval_fraction": 0},
            logging={"eval_every": 0},
            mesh=mesh,
            micro_batch=8,
            execution={"weight_axes": ["fsdp"] if mesh else []},
        )
        found.append(first_step(job, tmp_path))
    assert found[0].parts["paired"] > 0.2
    # The same float32 terms in another order.
    np.testing.assert_allclose(found[1].loss, found[0].loss, rtol=5e-5)
    np.testing.assert_allclose(found[1].grad_norm, found[0].grad_norm, rtol=5e-4)
    for name, value in found[0].parts.items():
        np.testing.assert_allclose(found[1].parts[name], value, rtol=1e-4, atol=1e-6)


def teacher_with(tmp_path, change=None, **config):
    """The golden llama with another tokenizer or other lines in its config.json."""
    folder = shutil.copytree(FOLDER / "llama", tmp_path / "teacher")
    if change is not None:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        change(tokenizer)
        tokenizer.save(str(folder / "tokenizer.json"))
    known = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (known | config).items() if v is not None}))
    return folder


def lower_case(tokenizer):
    tokenizer.normalizer = normalizers.Lowercase()


def more_words(tokenizer):
    tokenizer.add_tokens([f"word{number}" for number in range(9)])


@pytest.mark.parametrize(
    ("change", "config", "mesh", "words"),
    [
        (lower_case, {}, {}, r"does not keep the text \('The quick br' becomes 'the quick br'\)"),
        (more_words, {}, {}, r"has 521 tokens, and its model only 512"),
        (None, {"eos_token_id": None}, {}, r"eos_token_id of .*config.json' is None"),
        (None, {"eos_token_id": 700}, {}, r"eos_token_id of .*config.json' is 700"),
        (None, {}, {"sequence": 2}, r"set tpu.mesh_shape.sequence to 1"),
    ],
    ids=["lower case", "more words", "no end", "end beyond", "sequence axis"],
)
def test_a_teacher_that_cannot_be_aligned(tmp_path, change, config, mesh, words):
    with pytest.raises(UserError, match=words) as caught:
        student_of(teacher_with(tmp_path, change, **config), mesh=mesh)
    assert str(caught.value).startswith("distillation.teacher_model: ")


def test_a_student_whose_tokenizer_changes_the_text(tmp_path):
    file = byte_level(tmp_path, normalizer=normalizers.Lowercase())
    with pytest.raises(UserError, match=r"^data.tokenizer: tokenizer .* does not keep the text"):
        student_of(FOLDER / "llama", data={"tokenizer": str(file)}, model={"vocab_size": 512})


def test_settings_of_two_tokenizers_are_idle_with_one(tmp_path, teacher):
    job = student_of(teacher, section={"unshared_tokens": "rank", "teacher_seq_len": 64})
    idle = [one.setting for one in job.decisions if "reads the student's own tokens" in one.why]
    assert idle == ["distillation.unshared_tokens", "distillation.teacher_seq_len"]
    assert job.teacher is not None
    assert job.teacher.tokens is None


def test_the_window_that_was_asked_for():
    job = student_of(FOLDER / "llama", section={"teacher_seq_len": 24})
    assert job.teacher is not None
    assert job.teacher.model.max_seq_len == 24
    assert job.teacher.model.vocab_size == 512  # its words are its own, and none is cut off


def test_a_cache_is_of_the_students_own_words(tmp_path):
    with pytest.raises(UserError, match=r"a cache compares word by word: set data.tokenizer to the teacher's"):
        student_of(FOLDER / "llama", section={"cache": str(tmp_path)}, run={"kind": "cache_teacher"})
