"""docs/cli.md names every command and every exit code."""

from pathlib import Path

import typer.main
from typer.core import TyperGroup

from vishwamai.cli.exits import ExitCode
from vishwamai.cli.main import app

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def test_every_command_is_described():
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    commands = group.commands
    assert len(commands) > 15
    assert [name for name in commands if f"`{name}" not in TEXT] == []


def test_every_exit_code_is_described():
    assert [code for code in ExitCode if f"\n| {code.value} | " not in TEXT] == []
