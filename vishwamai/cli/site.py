"""Commands about the control plane itself: run one, ask what it has."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

import vishwamai
from vishwamai.cli import plane, render
from vishwamai.cli.failures import stop
from vishwamai.cli.options import FormatOption, ServerOption, connected
from vishwamai.cli.output import Format, Output, console
from vishwamai.cli.text import clean
from vishwamai.client import DEFAULT_SERVER, ClientError
from vishwamai.contract.api import Version

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on; 8000 by default, 0 for any.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of its database and the jobs' files; ./runs by default.")
    ] = None,
) -> None:
    """Run a control plane on this machine. Jobs outlive it: started again, it takes up those that still train."""
    if absent := plane.missing():
        raise stop(
            console(stderr=True),
            f"no control plane is installed here ({', '.join(absent)} missing): install vishwamai[service,trainer]",
        )
    console(stderr=True).print("starting the control plane; Ctrl-C stops it, jobs that train go on", style="dim")
    # In place of this process, so that signals and the exit code are the service's own.
    os.execve(plane.COMMAND[0], plane.COMMAND, plane.environment(host, port, data_dir))


@app.command()
def accelerators(server: ServerOption = DEFAULT_SERVER, output: FormatOption = Format.TABLE) -> None:
    """List the accelerators a config may name."""
    to = Output.of(output)
    with connected(server) as client:
        catalogue = client.accelerators()
        if to.json:
            to.body(client.last_body)
        else:
            render.show(to.out, render.accelerators(catalogue.accelerators))


@app.command()
def version(server: ServerOption = DEFAULT_SERVER, output: FormatOption = Format.TABLE) -> None:
    """Show the versions of this command and of the control plane, if one answers."""
    to = Output.of(output)
    there: Version | None = None
    with connected(server) as client:
        try:
            there = client.version()
        except ClientError as error:
            to.note(str(error))
    if to.json:
        to.body(json.dumps({"client": vishwamai.__version__, "server": there and there.model_dump(mode="json")}))
        return
    running = f"{there.version}, launcher {there.launcher}" if there else "none"
    to.out.print(render.facts([("vishwamai", vishwamai.__version__), ("control plane", clean(running))]))
