"""`make run`'s script: what it leaves behind when it is interrupted, and when it cannot begin."""

import fcntl
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def demo(tmp_path: Path, config: dict) -> subprocess.Popen[str]:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, str(ROOT / "scripts" / "run_demo.py"), str(file), "--data-dir", str(tmp_path / "runs")]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Whatever still names the folder on its command line or in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in word for word in words):
            found.append(process)
    return found


def test_interrupted_it_cancels_the_job_and_leaves_nothing_running(tmp_path):
    runs = tmp_path / "runs"
    process = demo(tmp_path, {"tpu": {"accelerator": "v5e", "tpu_topology": "1x1"}})
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if "trainer of attempt 1 runs" in line:
            break
    assert processes_of(runs)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(seen) + errors
    assert "cancelling the job" in errors
    assert processes_of(runs) == []
    with sqlite3.connect(runs / "service.sqlite3") as database:
        assert database.execute("select state from jobs").fetchall() == [("cancelled",)]
    database.close()


def test_a_folder_that_another_control_plane_holds_is_said_clearly(tmp_path):
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs" / "service.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        _, errors = (process := demo(tmp_path, {})).communicate(timeout=60)
    assert process.returncode == 5
    assert "another service (process 4711) uses" in errors
    assert "make serve" in errors


def test_a_config_with_an_error_starts_no_job(tmp_path):
    process = demo(tmp_path, {"model": {"hiden_dim": 64}})
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "did you mean" in errors
    assert "job" not in out
    assert processes_of(tmp_path / "runs") == []
