"""Cached teachers: whole lives that write a cache and that learn from it, and caches that are no use."""

import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest

from tests.trainer.distill.test_life import rows
from tests.trainer.run.lives import Observer, live, small_job
from trainer.data.loader import open_data
from trainer.distill import caching
from trainer.distill.beside import open_beside
from trainer.distill.cache_files import check_files, open_records, read_manifest, window_numbers
from trainer.distill.load import load_teacher
from trainer.distill.teacher import find_teacher
from trainer.errors import UserError
from trainer.mesh import make_mesh
from trainer.step import abstract_batch, init_state, make_train_step, put_batch
from vishwamai.contract.resolved import Mesh
from vishwamai.contract.states import Cause

SECTION = {"alpha": 0.7, "temperature": 2.0, "final_temperature": 1.0}


def job(folder, teacher, kind, *, steps=6, seed=0, cache=None, section=None, **sections):
    wanted = {"teacher_model": str(teacher), "cache": str(cache or folder / "cache"), **SECTION}
    return small_job(
        folder,
        training={"max_steps": steps, "batch_size": 4},
        logging={"eval_every": 0, "log_every": 1},
        distillation=wanted | (section or {}),
        run={"kind": kind, "seed": seed},
        **sections,
    )


@pytest.fixture(scope="module")
def cache(teacher, tmp_path_factory):
    """A cache of every word for six steps, which nobody changes."""
    folder = tmp_path_factory.mktemp("cached")
    seen = Observer()
    assert live(job(folder, teacher, "cache_teacher", section={"cache_top_k": 258}), folder / "out", seen) == 0
    assert re.fullmatch(r"Cached 258 words of each token of 24 windows: 0\.76 MiB in .*cache\.", seen.finished.message)
    assert "24 windows to cache, 0.76 MiB on disk" in [event.message for event in seen.of("log")]
    assert [(event.step, event.message) for event in seen.of("phase") if event.phase == "caching"] == [
        (0, "0 of 24 windows are cached"),
        (6, "24 of 24 windows are cached, 0:00 left"),
    ]
    (effective,) = seen.of("effective")
    assert effective.settings["teacher_cache"]["window_length"] == 32
    return folder / "cache"


def steps_of(output):
    return [row for row in rows(output) if row["kind"] == "step"]


@pytest.fixture(scope="module")
def course(teacher, cache, tmp_path_factory):
    """What a student of the cache told of its six steps."""
    folder, seen = tmp_path_factory.mktemp("student"), Observer()
    assert live(job(folder, teacher, "train", cache=cache), folder / "out", seen) == 0
    (effective,) = seen.of("effective")
    assert effective.settings["teacher"]["top_k"] == 258
    assert effective.settings["parameters"] < 10_000  # the student's alone
    return steps_of(folder / "out")


def test_a_student_of_a_cache_of_all_words_is_a_student_of_the_teacher(teacher, course, tmp_path):
    online = job(tmp_path, teacher, "train", section={"cache": None, "use_intermediate_distillation": False})
    assert live(online, tmp_path / "out", Observer()) == 0
    assert len(course) == 6
    for ours, theirs in zip(course, steps_of(tmp_path / "out"), strict=True):
        # Logs of probabilities near 1 / 258 in float16: 5.5 / 2048, of either sign, over 258 words and 128 tokens.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
        assert ours["parts"] == pytest.approx(theirs["parts"], rel=1e-3, abs=1e-2)
        assert ours["parts"]["teacher_loss"] == pytest.approx(theirs["parts"]["teacher_loss"], rel=1e-6)


def as_written(folder):
    manifest = read_manifest(folder)
    assert manifest is not None
    check_files(folder, manifest, contents=True)
    numbers = np.concatenate(window_numbers(folder, manifest))
    records = np.concatenate([open_records(folder, number) for number in range(len(manifest.files))])
    order = np.argsort(numbers)
    return numbers[order], records[order]


def test_a_writer_that_was_stopped_or_killed_goes_on_and_a_longer_training_adds(teacher, tmp_path, monkeypatch):
    whole = job(
        tmp_path,
        teacher,
        "cache_teacher",
        cache=tmp_path / "whole",
        section={"cache_top_k": 4, "teacher_dtype": "int8"},
    )
    assert live(whole, tmp_path / "out", Observer()) == 0
    windows, records = as_written(tmp_path / "whole")
    assert len(windows) == 24

    monkeypatch.setattr(caching, "_FILE_BYTES", 1)  # a file for every pass of four windows
    again = job(tmp_path, teacher, "cache_teacher", section={"cache_top_k": 4, "teacher_dtype": "int8"})
    first = Observer(
        lambda event: event.kind == "phase" and event.phase == "caching" and event.step == 2,
        lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    assert live(again, tmp_path / "out", first) == 73
    assert re.match(r"Stopped by SIGTERM with (8|12) of 24 windows, which are kept\.", first.finished.message)
    # Killed between a file and the manifest: what is not listed is as if it were not there.
    cache = tmp_path / "cache"
    document = json.loads((cache / "cache.json").read_text())
    del document["files"][1:]
    (cache / "cache.json").write_text(json.dumps(document))
    with (cache / "000001.npy").open("r+b") as file:
        file.truncate(100)
    second = Observer()
    assert live(again, tmp_path / "out", second, attempt=2) == 0
    assert "4 are there already" in "".join(event.message for event in second.of("log"))
    assert [event.step for event in second.of("phase") if event.phase == "caching"] == [1, 2, 3, 4, 5, 6]
    found = as_written(cache)
    np.testing.assert_array_equal(found[0], windows)
    np.testing.assert_array_equal(found[1], records)

    longer = job(tmp_path, teacher, "cache_teacher", steps=7, section={"cache_top_k": 4, "teacher_dtype": "int8"})
    assert live(longer, tmp_path / "out", Observer(), attempt=3) == 0
    assert len(as_written(cache)[0]) == 28
    third = Observer()
    assert live(longer, tmp_path / "out", third, attempt=4) == 0
    assert third.finished.message == f"Nothing to do: all 28 windows are in {cache} already."


def beside(reader, data):
    found = open_beside(reader, data)
    assert found is not None
    return found


def test_any_mesh_writes_the_same_and_learns_the_same(teacher, cache, course, tmp_path):
    def on_mesh(kind, section=None):
        found = find_teacher(job(tmp_path, teacher, kind, cache=cache, section=section))
        execution = found.execution.model_copy(update={"weight_axes": ["fsdp"]})
        return found.model_copy(update={"mesh": Mesh(fsdp=2, sequence=2, model=2), "execution": execution})

    reader = on_mesh("train")
    data, mesh = open_data(reader, tmp_path), make_mesh(reader)
    ids = data.window_ids(1)
    batch = data.rows(ids)
    lesson = beside(reader, data)(ids, batch)
    step, placed = make_train_step(reader, mesh), put_batch(batch._replace(lesson=lesson), mesh)
    _, metrics = step(init_state(reader, mesh), placed)
    for name in ("loss", "grad_norm"):  # the same float32 terms in another order
        np.testing.assert_allclose(getattr(metrics, name), course[0][name], rtol=1e-4)

    def shape(x):
        return x.shape, x.dtype, x.sharding

    assert jax.tree.map(shape, abstract_batch(reader, mesh)) == jax.tree.map(shape, placed)  # what a plan compiles

    writer = on_mesh("cache_teacher")
    kept = caching.make_finder(writer, mesh, 3)(load_teacher(writer, mesh), put_batch(batch, mesh))
    assert np.mean(kept.ids == lesson["ids"][..., :3]) > 0.98  # words that are nearly as likely may swap
    log_probs = lesson["log_probs"][..., :3].astype(np.float32)
    np.testing.assert_allclose(kept.log_probs.astype(np.float32), log_probs, rtol=2e-3)  # float16
    np.testing.assert_allclose(kept.target, lesson["target"], rtol=1e-5)
    # What is kept and not read counts as not kept.
    fewer = beside(on_mesh("train", {"cache_top_k": 3}), data)(ids, batch)
    np.testing.assert_array_equal(fewer["ids"], lesson["ids"][..., :3])
    np.testing.assert_allclose(fewer["rest"], kept.rest, atol=3e-3)  # logs of sums of float16 numbers


def opened(wanted, folder):
    """What happens to a job before its first step, as far as its cache is concerned."""
    found = find_teacher(wanted)
    return open_beside(found, open_data(found, folder))


MISFITS = {
    "another window": ({"model": {"max_seq_len": 16}, "sequence": {"max_length": 16}}, "model.max_seq_len"),
    "another vocabulary": ({"model": {"vocab_size": 300}}, "model.vocab_size: .* of 258 words, and the model has 300"),
    "another tokenizer": ({"sequence": {"eos_token_id": 7, "max_length": 32}}, "data.tokenizer: "),
    "more text": ({"data": {"eval_fraction": 0.1}}, "data.train: .* was made from other text"),
    "more windows": ({"steps": 8}, "lacks 8 of the 32 windows that this run visits"),
    "another order": ({"seed": 1}, "lacks 23 of the 24 windows"),
}


@pytest.mark.parametrize(("change", "words"), MISFITS.values(), ids=MISFITS.keys())
def test_a_cache_of_something_else_is_refused_before_the_first_step(teacher, cache, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        opened(job(tmp_path, teacher, "train", cache=cache, **change), tmp_path)


FACTS = {
    "corpus": "data.train: the cache in .* was made from other text",
    "windows": "data.train: the cache in .* numbers the windows of this text in another order",
    "top_k": "distillation.cache_top_k: .* keeps 2 words of a token, and 5 are asked for: write",
}


@pytest.mark.parametrize(("fact", "words"), FACTS.items(), ids=FACTS.keys())
def test_what_a_cache_was_made_from_is_held_against_it(teacher, cache, tmp_path, fact, words):
    shutil.copytree(cache, tmp_path / "other")
    document = json.loads((cache / "cache.json").read_text())
    document["facts"][fact] = 2 if fact == "top_k" else "of another"
    (tmp_path / "other" / "cache.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=words):
        opened(job(tmp_path, teacher, "train", cache=tmp_path / "other", section={"cache_top_k": 5}), tmp_path)


def test_what_another_job_wrote_is_not_written_over(teacher, cache, tmp_path):
    before, seen = (cache / "cache.json").read_bytes(), Observer()
    assert live(job(tmp_path, teacher, "cache_teacher", cache=cache, section={"cache_top_k": 5}), tmp_path, seen) == 2
    assert "keeps 258 words of a token, and 5 are asked for: name another folder" in seen.finished.message
    assert (cache / "cache.json").read_bytes() == before


def test_a_cache_of_another_teacher_is_refused_and_of_one_that_is_gone_is_not(teacher, cache, tmp_path):
    with pytest.raises(UserError, match=r"distillation\.teacher_model: the cache .* was made with another teacher"):
        opened(job(tmp_path, teacher / "checkpoints" / "4", "train", cache=cache), tmp_path)
    assert opened(job(tmp_path, tmp_path / "gone", "train", cache=cache), tmp_path) is not None


def spoil(folder, how):
    match how:
        case "no manifest":
            (folder / "cache.json").unlink()
        case "not a manifest":
            (folder / "cache.json").write_text("{}")
        case "empty":
            (folder / "cache.json").write_text('{"facts": {"top_k": 3}}')
        case "cut off":
            os.truncate(folder / "000000.npy", 1000)
        case "gone":
            (folder / "000000.windows.npy").unlink()
        case "changed":
            with (folder / "000000.npy").open("r+b") as file:
                file.seek(5000)
                file.write(b"\xff\xff")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no manifest", r"holds no cache: write it first, with this config and run\.kind cache_teacher"),
        ("not a manifest", r"cache\.json' is no manifest of this release"),
        ("empty", r"cache\.json' says nothing of teacher, vocab_size, window_length: write the cache into another"),
        ("cut off", r"000000\.npy has 1,000 bytes instead of 798,\d+: delete .* and write the cache again"),
        ("gone", r"000000\.windows\.npy cannot be read \(No such file"),
        ("changed", r"the content of 000000\.npy has changed"),
    ],
)
def test_a_damaged_cache_is_refused_before_the_first_step(teacher, cache, tmp_path, how, words):
    shutil.copytree(cache, tmp_path / "spoilt")
    spoil(tmp_path / "spoilt", how)
    with pytest.raises(UserError, match=words) as caught:
        opened(job(tmp_path, teacher, "train", cache=tmp_path / "spoilt"), tmp_path)
    assert str(caught.value).startswith("distillation.cache")


def test_a_teacher_of_fewer_words_is_not_cached(teacher, tmp_path):
    with pytest.raises(
        UserError, match=r"the teacher has 258 words and model\.vocab_size is 300, and a cache compares"
    ):
        find_teacher(job(tmp_path, teacher, "cache_teacher", model={"vocab_size": 300}))


def test_a_disk_without_room_is_said_before_anything_is_computed(teacher, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("trainer.distill.caching.shutil.disk_usage", lambda _: usage._replace(free=1000))
    seen = Observer()
    wanted = job(tmp_path, teacher, "cache_teacher", section={"cache_top_k": 64})
    assert live(wanted, tmp_path / "out", seen) == 2
    assert seen.finished.cause is Cause.USER_ERROR
    assert re.search(r"24 windows take 0\.\d+ MiB, .* lower distillation\.cache_top_k from 64", seen.finished.message)
    assert not (tmp_path / "cache" / "cache.json").exists()
