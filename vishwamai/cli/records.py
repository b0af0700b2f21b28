"""Commands that read what a job left behind: logs, events, metrics, checkpoints, attempts."""

from typing import Annotated

import typer
from rich.text import Text

from vishwamai.cli import render
from vishwamai.cli.exits import ExitCode
from vishwamai.cli.options import FormatOption, JobArgument, ServerOption, connected
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean
from vishwamai.cli.watch import event_line
from vishwamai.client import DEFAULT_SERVER

app = typer.Typer()
LEVEL_STYLES = {"warning": "yellow", "error": "bold red", "debug": "dim"}

AttemptOption = Annotated[int | None, typer.Option(min=1, help="Only this attempt.")]
ProcessOption = Annotated[int | None, typer.Option(min=0, help="Only this host's process.")]


@app.command()
def logs(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until the job ends.")] = False,
    tail: Annotated[int | None, typer.Option(min=1, max=10_000, help="Begin with the last lines only.")] = None,
    attempt: AttemptOption = None,
    process: ProcessOption = None,
    search: Annotated[str | None, typer.Option(help="Only lines that contain this text.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Print what the trainer wrote; with -o json one object a line."""
    to = Output.of(output)
    with connected(server) as client:
        if follow:
            client.get(job)  # Following outlasts an outage; an address where nobody answers is said at once.
        lines = client.logs(job, follow=follow, tail=tail, attempt=attempt, process=process, search=search)
        try:
            for line in lines:
                if to.json:
                    to.body(line.model_dump_json())
                else:
                    time = line.time.astimezone().strftime("%H:%M:%S")
                    style = LEVEL_STYLES.get(line.level, "")
                    to.out.print(Text.assemble((f"{time} ", "dim"), (clean(line.message), style)), soft_wrap=True)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


@app.command()
def events(
    job: JobArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until the job ends.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Print what happened to a job; with -o json one object a line."""
    to = Output.of(output)
    with connected(server) as client:
        if follow:
            client.get(job)
        happened = client.events(job) if follow else client.past_events(job)
        try:
            for event in happened:
                if to.json:
                    to.body(event.model_dump_json())
                else:
                    to.out.print(event_line(event), soft_wrap=True)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


@app.command()
def metrics(
    job: JobArgument,
    names: Annotated[list[str], typer.Option("--name", help="Only this series; may be repeated.")] = [],  # noqa: B006
    max_points: Annotated[int | None, typer.Option(min=4, help="Points of each series, at most.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Every point as CSV.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show a job's measurements: a summary of each series, or all points with --csv or -o json."""
    to = Output.of(output)
    with connected(server) as client:
        if csv:
            to.body(client.metrics_csv(job, names=names, max_points=max_points))
            return
        page = client.metrics(job, names=names, max_points=max_points)
        if to.json:
            to.body(client.last_body)
            return
        made = render.table("series", "points", "first", "last", "least", "most", "last step")
        for one in page.series:
            if one.values:
                numbers = (one.values[0], one.values[-1], min(one.values), max(one.values))
                values = [f"{value:.6g}" for value in numbers]
                made.add_row(clean(one.name), str(len(one.values)), *values, str(one.steps[-1]))
        render.show(to.out, made)


@app.command()
def checkpoints(job: JobArgument, server: ServerOption = DEFAULT_SERVER, output: FormatOption = Format.TABLE) -> None:
    """List a job's committed checkpoints, newest first."""
    to = Output.of(output)
    with connected(server) as client:
        kept = client.checkpoints(job).checkpoints
        if to.json:
            to.body(client.last_body)
        elif kept:
            render.show(to.out, render.checkpoints(kept))
        else:
            to.note("no checkpoints")


@app.command()
def attempts(job: JobArgument, server: ServerOption = DEFAULT_SERVER, output: FormatOption = Format.TABLE) -> None:
    """List a job's attempts, oldest first."""
    to = Output.of(output)
    with connected(server) as client:
        lives = client.attempts(job).attempts
        if to.json:
            to.body(client.last_body)
        elif lives:
            render.show(to.out, render.attempts(lives))
        else:
            to.note("no attempts")
