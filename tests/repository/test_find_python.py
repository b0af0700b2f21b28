"""Where scripts/find_python.sh looks, and what it says when there is nothing to find."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "find_python.sh"


def find(home, **environment):
    environment = {"HOME": str(home), "PATH": str(home / "bin"), **environment}
    return subprocess.run(["/bin/sh", SCRIPT], env=environment, capture_output=True, text=True, timeout=60)


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path):
    """A home with a space in its name, whose PATH holds only `cat`."""
    home = tmp_path / "a home"
    program(home / "bin" / "cat", 'exec /bin/cat "$@"')
    return home


def test_nothing_found_says_what_to_do(home):
    answer = find(home)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "needs Python 3.12 or newer" in answer.stderr
    assert "make PYTHON=" in answer.stderr


def test_a_python_on_path_is_taken_and_one_that_is_too_old_passed_over(home):
    program(home / "bin" / "python3.14", "exit 1")
    program(home / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    answer = find(home)
    assert (answer.returncode, answer.stdout.strip()) == (0, sys.executable)


def test_pyenv_is_searched(home):
    program(home / ".pyenv" / "versions" / "3.11.9" / "bin" / "python3", "exit 1")
    program(home / ".pyenv" / "versions" / "3.12.9" / "bin" / "python3", f'exec "{sys.executable}" "$@"')
    assert find(home).stdout.strip() == sys.executable


def test_uv_is_asked_last(home):
    elsewhere = program(home / "elsewhere" / "python3.13", f'exec "{sys.executable}" "$@"')
    program(home / "bin" / "uv", f'echo "{elsewhere}"')
    assert find(home).stdout.strip() == sys.executable


def test_a_python_that_was_named_is_taken_or_refused(home):
    assert find(home, PYTHON=sys.executable).stdout.strip() == sys.executable
    refused = find(home, PYTHON=str(program(home / "old", "exit 1")))
    assert refused.returncode == 1
    assert "not a working Python 3.12" in refused.stderr
