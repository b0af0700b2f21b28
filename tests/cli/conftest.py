from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.cli.plane import Plane, serving
from vishwamai.cli.main import app


@pytest.fixture
def plane() -> Iterator[Callable[[dict[str, Any]], Plane]]:
    """Starts a control plane that gives the answers it is told."""
    with ExitStack() as stack:
        yield lambda answers: stack.enter_context(serving(answers))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process, piped; `at` is the control plane's address."""
    monkeypatch.delenv("VISHWAMAI_SERVER", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str, at: Plane | str | None = None, stdin: str | bytes | None = None) -> Result:
        server = {"VISHWAMAI_SERVER": at.address if isinstance(at, Plane) else at} if at else {}
        result = CliRunner(env=server).invoke(app, list(args), input=stdin, prog_name="vishwamai")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    """Writes a config's text to a file and returns its name."""

    def write(text: str) -> str:
        path = tmp_path / "config.json"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write
