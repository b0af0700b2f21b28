"""Cached teachers: whole lives that write a cache and that learn from it, and caches that are no use."""


import pytest

from tests.trainer.distill.test_life import rows
from tests.trainer.run.lives import Observer, live, small_job

SECTION = {"alpha": 0.7, "temperature": 2.0, "final_temperature": 1.0}


def job(folder, teacher, kind, *, steps=6, cache=None, section=None, **sections):
    wanted = {"teacher_model": str(teacher), "teacher_cache": str(cache or folder / "cache"), **SECTION}
    return small_job(
        folder,
        training={"max_steps": steps, "batch_size": 4},
        logging={"eval_every": 0, "log_every": 1},
        distillation=wanted | (section or {}),
        run={"kind": kind},
        **sections,
    )


@pytest.fixture(scope="module")
def cache(teacher, tmp_path_factory):
    """A cache of every word for six steps, which nobody changes."""
    folder = tmp_path_factory.mktemp("cached")
    seen = Observer()
    wanted = job(folder, teacher, "cache_teacher", section={"cache_top_k": 258})
    assert live(wanted, folder / "out", seen) == 0, seen.finished.message
    assert "words of each token" in seen.finished.message
    return folder / "cache"


def test_a_student_of_a_cache_of_all_words_is_a_student_of_the_teacher(teacher, cache, tmp_path):
    seen = Observer()
    assert live(job(tmp_path, teacher, "train", cache=cache), tmp_path / "cached", seen) == 0, seen.finished.message
    online = job(tmp_path, teacher, "train", section={"teacher_cache": None, "use_intermediate_distillation": False})
    assert live(online, tmp_path / "online", Observer()) == 0
    for ours, theirs in zip(rows(tmp_path / "cached"), rows(tmp_path / "online"), strict=True):
        if ours["kind"] == "step":
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
            print(ours, theirs)
