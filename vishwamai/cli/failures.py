"""What a failure looks like: one clear message on stderr, and the exit code that says its kind."""

from collections.abc import Callable
from typing import Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from vishwamai.cli import render
from vishwamai.cli.exits import ExitCode, code_for
from vishwamai.cli.output import console
from vishwamai.cli.text import clean
from vishwamai.client import ApiError, ClientError
from vishwamai.contract.problems import InvalidConfig

Failure = ClientError | InvalidConfig | OSError
Place = Callable[[str], str]
"""Tells where the value of a JSON pointer was written."""


class Commands(TyperGroup):
    """The command's root: turns what a command raises into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, ConnectionError):
            raise  # typer ends quietly when nobody reads
        except (ClientError, InvalidConfig, OSError) as error:
            raise typer.Exit(report(console(stderr=True), error)) from error


def report(err: Console, error: Failure, place: Place = lambda pointer: "") -> ExitCode:
    """Says what went wrong, and which exit code says it too. `place` names file and line of a pointer."""
    match error:
        case InvalidConfig():
            _heading(err, "the config is not valid")
            render.problems(err, error.problems, place)
            return ExitCode.INVALID
        case ApiError():
            _heading(err, str(error))
            render.problems(err, error.errors, place)
            # What blocks a launch is among the errors already.
            render.notices(err, [notice for notice in error.warnings if not (notice.blocks_launch and error.errors)])
            return code_for(error)
        case ClientError():
            _heading(err, str(error))
            return code_for(error)
        case _:
            _heading(err, f"{error.filename}: {error.strerror}" if error.filename else str(error))
            return ExitCode.NOT_FOUND if isinstance(error, FileNotFoundError) else ExitCode.INVALID


def stop(err: Console, message: str, code: ExitCode = ExitCode.INVALID) -> typer.Exit:
    """Says `message`; raise what it returns."""
    _heading(err, message)
    return typer.Exit(code)


def _heading(err: Console, message: str) -> None:
    err.print(Text.assemble(("error: ", "bold red"), clean(message, lines=True)), soft_wrap=True)
