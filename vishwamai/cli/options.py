"""Options that many commands share. VISHWAMAI_SERVER and VISHWAMAI_TOKEN are read here and nowhere else."""

import os
from typing import Annotated

import typer

from vishwamai.cli.output import Format
from vishwamai.client import Client

ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        "-s",
        envvar="VISHWAMAI_SERVER",
        metavar="URL",
        help="The control plane's address.",
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--output", "-o", help="table for people, json for programs: the API's body, verbatim.")
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="The config's JSON file; - reads stdin.")]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Change the config before it is used, e.g. --set training.max_steps=200. May be repeated.",
    ),
]
"""Give it `[]` as default."""


def connected(server: str) -> Client:
    """A client of this control plane that says who calls: by VISHWAMAI_TOKEN, so that no token is on a command line."""
    return Client(server, token=os.environ.get("VISHWAMAI_TOKEN") or None)
