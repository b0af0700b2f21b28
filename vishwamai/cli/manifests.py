"""Commands that print what a job is on a Kubernetes cluster."""

import typer

from vishwamai.cli.configs import config_in
from vishwamai.cli.failures import report
from vishwamai.cli.options import FileArgument, JobArgument, ServerOption, SetOption, connected
from vishwamai.cli.output import Format, Output
from vishwamai.client import DEFAULT_SERVER, InvalidRequest

app = typer.Typer()


@app.command("render")
def render_config(
    file: FileArgument,
    settings: SetOption = [],  # noqa: B006 (typer reads it, nothing writes it)
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Print the JobSet that a config becomes on the control plane's cluster, for `kubectl apply -f -`."""
    to = Output.of(Format.TABLE)
    document = config_in(to, file, settings)
    with connected(server) as client:
        try:
            to.body(client.render(document.value).rstrip("\n"))
        except InvalidRequest as error:
            raise typer.Exit(report(to.err, error, document.source)) from error


@app.command()
def manifest(job: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Print the JobSet that a job becomes on the control plane's cluster."""
    with connected(server) as client:
        Output.of(Format.TABLE).body(client.manifest(job).rstrip("\n"))
