"""`vishwamai serve`: the service's own process, told where to listen and where to keep things."""

import signal
import socket
import subprocess
import sys


def serve(tmp_path, *arguments: str) -> subprocess.Popen[str]:
    (tmp_path / "service").mkdir()  # no part of ours, and must not be taken for it
    command = [sys.executable, "-m", "vishwamai.cli.main", "serve", "--data-dir", "data", *arguments]
    return subprocess.Popen(command, text=True, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_it_serves_until_it_is_interrupted(tmp_path):
    process = serve(tmp_path, "--port", "0")
    assert process.stderr
    lines = iter(process.stderr.readline, "")
    assert any("http://127.0.0.1:" in line for line in lines)
    assert any("startup complete" in line for line in lines)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in {0, 130, -signal.SIGINT}
    assert (tmp_path / "data" / "service.sqlite3").exists()


def test_a_taken_port_is_said_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serve(tmp_path, "--port", str(port))
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors
    assert "Traceback" not in errors
    assert out == ""
