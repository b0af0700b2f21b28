"""The command that asks what a config needs and costs."""

from typing import Annotated

import typer

from vishwamai.cli.configs import config_in
from vishwamai.cli.exits import ExitCode
from vishwamai.cli.failures import report
from vishwamai.cli.options import FileArgument, FormatOption, ServerOption, SetOption, connected
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean
from vishwamai.client import DEFAULT_SERVER, InvalidRequest
from vishwamai.contract.plan_text import as_text

app = typer.Typer()


@app.command()
def plan(
    file: FileArgument,
    on: Annotated[
        str | None, typer.Option("--slice", metavar="ACCELERATOR:TOPOLOGY", help="Another slice, e.g. v5e:2x4.")
    ] = None,
    settings: SetOption = [],  # noqa: B006 (typer reads it, nothing writes it)
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Compile a config's step with the TPU compiler, on the control plane's machine: does it fit, what does it cost?

    Exit code 1 when it does not fit.
    """
    to = Output.of(output)
    document = config_in(to, file, settings)
    with connected(server) as client:
        to.note("compiling; this takes a minute or more")
        try:
            found = client.plan(document.value, slice=on)
        except InvalidRequest as error:
            raise typer.Exit(report(to.err, error, document.source)) from error
        to.body(client.last_body if to.json else clean(as_text(found), lines=True))
    if not found.fits:
        raise typer.Exit(ExitCode.JOB_FAILED)
