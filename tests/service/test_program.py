"""`python -m service` as an operator meets it."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from service.__main__ import data_dir, main
from tests.service.plane import CONFIG


@contextmanager
def service(folder: Path):
    """The program on a free port, and its address."""
    environ = os.environ | {"VISHWAMAI_DATA_DIR": str(folder), "VISHWAMAI_PORT": "0"}
    command = [sys.executable, "-m", "service"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            first = json.loads(process.stderr.readline())
            assert first["event"] == "service.listening"
            yield process, first["url"]
        finally:
            process.kill()


def run_main(monkeypatch, capsys, folder, *arguments, **environ):
    for name, value in {"DATA_DIR": str(folder), **environ}.items():
        monkeypatch.setenv(f"VISHWAMAI_{name}", value)
    monkeypatch.setattr(sys, "argv", ["service", *arguments])
    code = main()
    return code, capsys.readouterr().err.strip()


def test_a_job_accepted_before_a_kill_is_there_afterwards_and_sigterm_ends_streams(tmp_path):
    # Its trainer may not start: the test is about the record.
    (tmp_path / "jobs").write_text("in the way")
    with service(tmp_path) as (process, url):
        job_id = httpx2.post(f"{url}/jobs", json=CONFIG).json()["id"]
        process.kill()
    with service(tmp_path) as (process, url):
        assert httpx2.get(f"{url}/jobs/{job_id}").json()["name"] == "tiny"
        with httpx2.stream("GET", f"{url}/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as answer:
            lines = answer.iter_lines()
            while not next(lines).startswith("data: "):
                pass
            process.send_signal(signal.SIGTERM)
            assert list(lines)[-1] == ""  # the stream ends whole
        assert process.wait(timeout=20) == 0


def test_a_port_in_use(monkeypatch, capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, message = run_main(monkeypatch, capsys, tmp_path, PORT=port)
    assert code == 1
    assert f"127.0.0.1:{port}" in message
    assert "VISHWAMAI_PORT" in message
    assert "\n" not in message


def test_a_second_service_on_the_same_data(monkeypatch, capsys, tmp_path):
    with data_dir(tmp_path):
        code, message = run_main(monkeypatch, capsys, tmp_path, PORT="0")
    assert code == 1
    assert f"process {os.getpid()}" in message
    assert "VISHWAMAI_DATA_DIR" in message


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"HOST": "0.0.0.0"}, "VISHWAMAI_TOKENS_FILE"),
        ({"DATABASE_URL": "sqlite:////nowhere/x.sqlite3"}, "nowhere"),
        ({"DATA_DIR": "/proc/nothing"}, "VISHWAMAI_DATA_DIR"),
    ],
)
def test_what_keeps_the_service_from_starting_is_said_in_one_line(monkeypatch, capsys, tmp_path, environ, words):
    code, message = run_main(monkeypatch, capsys, tmp_path, **environ)
    assert code == 1
    assert words in message
    assert "\n" not in message


def spoil_database(folder):
    (folder / "service.sqlite3").write_bytes(b"nonsense " * 1000)
    return "service.sqlite3 cannot be used: file is not a database"


def spoil_secret(folder):
    (folder / "reports.secret").write_text("no secret")
    return "reports.secret does not hold"


@pytest.mark.parametrize("spoil", [spoil_database, spoil_secret])
def test_a_damaged_file_is_named_in_one_line(monkeypatch, capsys, tmp_path, spoil):
    words = spoil(tmp_path)
    code, message = run_main(monkeypatch, capsys, tmp_path)
    assert code == 1
    assert words in message
    assert "\n" not in message


def test_a_database_that_was_lost_is_not_made_anew_without_a_word(monkeypatch, capsys, tmp_path):
    (tmp_path / "jobs" / "j1").mkdir(parents=True)
    code, message = run_main(monkeypatch, capsys, tmp_path, "migrate")
    assert code == 0
    assert "service.sqlite3 is missing" in message
    assert run_main(monkeypatch, capsys, tmp_path, "migrate") == (0, "")


def test_migrate_makes_the_database_and_may_be_repeated(monkeypatch, capsys, tmp_path):
    for _ in range(2):
        assert run_main(monkeypatch, capsys, tmp_path, "migrate") == (0, "")
    assert (tmp_path / "service.sqlite3").exists()
