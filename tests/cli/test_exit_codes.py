"""What a script may branch on."""

import socket

import pytest

from tests.client import bodies
from vishwamai.cli.exits import MEANINGS


def problem(status: int, detail: str = "why") -> tuple[int, dict[str, object]]:
    return status, {"title": "Problem", "status": status, "detail": detail}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (bodies.job(), 0),
        (problem(409, "job j1 has succeeded"), 2),
        (problem(422), 2),
        (problem(404, "there is no job 'j1'"), 3),
        (problem(500), 5),
        ((200, "<html>another program"), 5),
    ],
)
def test_an_answer_becomes_an_exit_code(plane, run, answer, code):
    result = run("cancel", "j1", at=plane({"POST /jobs/j1:cancel": answer}))
    assert result.exit_code == code
    assert bool(result.stderr.startswith("error: ")) == (code != 0)
    assert bool(result.stdout) == (code == 0)


def test_nobody_there(run):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = run("list", "-o", "json", at=address)
    assert result.exit_code == 4
    assert result.stdout == ""
    assert (
        result.stderr == f"error: no control plane at {address} (connection refused); start one with: vishwamai serve\n"
    )


@pytest.mark.parametrize(
    "arguments", [["submit"], ["get"], ["list", "--state", "dreaming"], ["frobnicate"], ["list", "-n", "x"]]
)
def test_wrong_usage(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_help_lists_every_exit_code(run):
    text = run("--help").stdout
    for code, meaning in MEANINGS.items():
        assert f"{code.value:3}  {meaning}" in text


@pytest.mark.parametrize(
    "command", ["serve", "submit", "list", "get", "watch", "logs", "events", "metrics", "checkpoints", "cancel"]
)
def test_every_command_has_help(run, command):
    assert run(command, "--help").exit_code == 0


def test_the_server_option_outranks_the_environment(plane, run):
    there = plane({"GET /jobs/j1": bodies.job()})
    assert run("get", "j1", "--server", there.address, at="http://127.0.0.1:1").exit_code == 0
