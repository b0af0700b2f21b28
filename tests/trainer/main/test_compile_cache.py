"""A second life compiles nothing, and computes the same bits."""

import json
import os
import subprocess
import sys

import pytest

from tests.trainer.run.lives import losses, small_job
from trainer.compile_cache import keep_compiled
from vishwamai.contract.environment import TrainerEnvironment


@pytest.fixture
def train(tmp_path):
    """Trains in a process that keeps its programs in `cache`; its journal."""
    resolved = tmp_path / "resolved.json"
    sections = {"training": {"max_steps": 3}, "logging": {"eval_every": 0, "save_every": 0}}
    resolved.write_text(small_job(tmp_path, **sections).model_dump_json())

    def life(output, cache):
        where = TrainerEnvironment(resolved, output, compile_cache=cache)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
        environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
        command = [sys.executable, "-m", "trainer", "train"]
        done = subprocess.run(command, env=environ | where.write(), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]

    return life


def test_the_second_life_reads_what_the_first_compiled_and_computes_the_same_bits(train, tmp_path):
    cache = tmp_path / "one/compiled"
    train(tmp_path / "one", None)
    programs = {path: path.stat().st_mtime_ns for path in cache.glob("*-cache")}
    assert programs
    half = cache / "jit_step-0-cache"
    half.write_bytes(b"a part of a program")
    journal = train(tmp_path / "two", cache)
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*-cache")} == programs, "nothing was compiled anew"
    (effective,) = (event for event in journal if event["kind"] == "effective")
    assert effective["settings"]["compile_cache"] == str(cache)
    assert [event for event in journal if event.get("level") == "warning"] == []


def test_a_folder_that_cannot_be_used_is_no_more_than_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    environ: dict[str, str] = {}
    keep_compiled(tmp_path / "file/compiled", environ)
    assert environ == {}
    assert "compiled programs are not kept" in caplog.text
