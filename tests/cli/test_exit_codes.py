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


@pytest.mark.parametrize("arguments", [["logs", "j1", "-f"], ["events", "j1", "-f"], ["watch", "j1"]])
def test_following_does_not_wait_for_an_address_where_nobody_is(run, arguments):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = run(*arguments, at=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert result.exit_code == 4
    assert "connection refused" in result.stderr


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("localhost:8000", "write http://localhost:8000"),
        ("http://[::1", "write it like http://127.0.0.1:8000"),
        ("ftp://127.0.0.1", "write it like http://127.0.0.1:8000"),
        ("http://", "write it like http://127.0.0.1:8000"),
        ("http://127.0.0.1:99999", "write it like http://127.0.0.1:8000"),
    ],
)
def test_an_address_that_is_none(run, address, fix):
    result = run("list", "--server", address)
    assert result.exit_code == 2
    assert result.stderr == f"error: the control plane's address '{address}' is not a URL; {fix}\n"


def test_a_page_of_another_program_is_no_csv(plane, run):
    result = run("metrics", "j1", "--csv", at=plane({"GET /jobs/j1/metrics": (200, "<html>another program")}))
    assert result.exit_code == 5
    assert result.stdout == ""


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
