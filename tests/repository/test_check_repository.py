"""The checks of scripts/check_repository.py, on texts that have the faults they look for."""

import pytest

from scripts.check_repository import lock_faults, ties_in

HOST = ".".join(["pypi", "org"])
HOME = "/".join(["", "root", "project"])
LOCK = "alpha==1.4.0 \\\n    --hash=sha256:00\nbeta==2.0.0 ; sys_platform == 'linux' \\\n    --hash=sha256:11\n"


@pytest.mark.parametrize("text", [f"index = https://{HOST}/simple", f"see {HOME}/x", f'path = "{HOME}"'])
def test_a_tie_is_found(text):
    assert [number for number, _ in ties_in(f"first line\n{text}\n")] == [2]


@pytest.mark.parametrize(
    "text", ["../shared/goldens", "https://example.com/home/page", "$HOME/users/x", "/job/resolved.json"]
)
def test_ordinary_paths_are_no_ties(text):
    assert list(ties_in(text)) == []


def test_a_fresh_lock_has_no_faults():
    assert list(lock_faults("dev.txt", LOCK, ["alpha>=1.2,<2", "beta[extra]==2.0.0"])) == []


@pytest.mark.parametrize(
    ("lock", "wanted", "words"),
    [
        (LOCK, ["alpha>=2"], ["alpha>=2", "has 1.4.0", "make lock"]),
        (LOCK, ["gamma"], ["gamma", "lacks it"]),
        ("alpha==1.4.0\n", [], ["no hash"]),
        (f"--index-url https://{HOST}/simple\n{LOCK}", [], ["package index"]),
        ("nvidia-cublas==1.0 \\\n    --hash=sha256:00\n", [], ["accelerators"]),
    ],
)
def test_a_fault_of_a_lock_is_named(lock, wanted, words):
    (fault,) = lock_faults("dev.txt", lock, wanted)
    assert all(word in fault for word in words)


@pytest.mark.parametrize(("name", "faults"), [("dev.txt", 0), ("trainer.txt", 1), ("service.txt", 1)])
def test_the_tpu_compiler_comes_with_the_tests_alone(name, faults):
    lock = "libtpu==1.0 \\\n    --hash=sha256:00\n"
    assert len(list(lock_faults(name, lock, []))) == faults
