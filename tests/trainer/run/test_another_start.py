"""Starts that find the folder of another run, or another trainer at work in it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from tests.trainer.run.lives import MODEL, Observer, live, small_job
from trainer import lock


def test_another_tokenizer_or_model_is_refused(uninterrupted, tmp_path):
    _, whole, _ = uninterrupted
    shutil.copytree(whole, tmp_path / "copy")
    words = Tokenizer(WordLevel({"[UNK]": 0, "the": 1}, unk_token="[UNK]"))
    words.save(str(tmp_path / "tokenizer.json"))
    refusals: list[tuple[dict[str, Any], str]] = [
        (
            {"data": {"tokenizer": str(tmp_path / "tokenizer.json")}},
            r"data\.tokenizer: .*step 12.* \w{16}, and this is \w{16} ",
        ),
        ({"model": MODEL | {"hidden_dim": 32}}, r"step 12 is of another model.*model\.hidden_dim was 16 and is 32"),
        (
            {"sequence": {"eos_token_id": 2}},
            r"step 12 .*sequence\.eos_token_id was 1 and is 2 \(tokens get other ids\)",
        ),
    ]
    for changed, said in refusals:
        observer = Observer()
        assert live(small_job(tmp_path, **changed), tmp_path / "copy", observer) == 2
        assert re.search(said, observer.finished.message), observer.finished.message
        assert sorted(path.name for path in (tmp_path / "copy/checkpoints").iterdir()) == ["12", "4", "8"]


def test_a_checkpoint_says_what_it_is_of(uninterrupted):
    job, whole, observer = uninterrupted
    extra = json.loads((whole / "checkpoints/12/extra/metadata").read_text())
    assert extra["config"] == job.effective.model_dump(mode="json")
    assert extra["position"] == {"next_step": 13, "sequences": 48, "sequences_per_step": 4}
    assert extra["dropout"] == {"seed": job.effective.run.seed, "step": 12}
    assert extra["metrics"]["loss"] == observer.of("step")[-1].loss
    assert extra["metrics"]["evaluation"] == {"step": 12, "losses": {"eval": observer.of("eval")[-1].loss}}
    assert extra["tokens"] == observer.of("step")[-1].tokens
    assert {"format", "config_hash", "data", "early_stopping", "evaluated"} <= extra.keys()


HOLD = """
import os, sys, time
from pathlib import Path
from trainer.lock import FolderLock
held = FolderLock(Path(sys.argv[1]))
if sys.argv[2:] == ["fork"] and os.fork() == 0:
    os.close(1)
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def hold():
    """Makes a process of its own hold a folder; gives the process."""
    started = []

    def start(folder, *options):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), *options],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class TestTwoTrainers:
    @pytest.mark.parametrize("place", ["output", "checkpoints"])
    def test_the_second_refuses_and_changes_nothing(self, hold, uninterrupted, tmp_path, monkeypatch, place):
        monkeypatch.setattr(lock, "PATIENCE", 0.0)
        output, elsewhere = tmp_path / "output", tmp_path / "elsewhere"
        output.mkdir()
        elsewhere.mkdir()
        process = hold(output if place == "output" else elsewhere)
        job = small_job(tmp_path, checkpoint={"directory": str(elsewhere)})
        observer = Observer()
        assert live(job, output, observer) == 2
        said = observer.finished.message
        assert re.search(rf"another trainer is at work in '.*' \(process {process.pid} on .*, since 20", said), said
        if place == "output":
            assert [path.name for path in output.iterdir()] == [lock.NAME]

    @pytest.mark.parametrize("options", [(), ("fork",)], ids=["alone", "its children live on"])
    def test_the_lock_of_a_killed_one_is_free(self, hold, tmp_path, options):
        process = hold(tmp_path, *options)
        process.kill()
        process.wait()
        with lock.FolderLock(tmp_path):
            assert (tmp_path / lock.NAME).exists()
        assert not (tmp_path / lock.NAME).exists()

    def test_one_on_its_way_out_is_waited_for(self, hold, tmp_path):
        process = hold(tmp_path)
        threading.Timer(0.3, process.kill).start()
        with lock.FolderLock(tmp_path):
            assert process.wait(timeout=10) == -signal.SIGKILL, "it was let in when the other was gone"
