"""Commands that start, list, follow and stop jobs."""

from typing import Annotated

import typer
from rich.text import Text

from vishwamai.cli import render
from vishwamai.cli.configs import config_in
from vishwamai.cli.exits import ExitCode, code_after
from vishwamai.cli.failures import report
from vishwamai.cli.options import FileArgument, FormatOption, JobArgument, ServerOption, SetOption, connected
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean
from vishwamai.cli.watch import follow, view_on
from vishwamai.client import DEFAULT_SERVER, Client, InvalidRequest
from vishwamai.contract.api import Job, Validation
from vishwamai.contract.states import JobState

app = typer.Typer()
HISTORY = 10
"""Past events that `watch` begins with."""


@app.command()
def submit(
    file: FileArgument,
    settings: SetOption = [],  # noqa: B006 (typer reads it, nothing writes it)
    name: Annotated[str | None, typer.Option(help="The job's name, in place of run.name.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the control plane check and resolve it; start nothing.")
    ] = False,
    key: Annotated[str | None, typer.Option("--idempotency-key", help="The same key twice is the same job.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Start a job from a config; show what was decided and why."""
    to = Output.of(output)
    document = config_in(to, file, settings, name)
    with connected(server) as client:
        try:
            answer = client.validate(document.value) if dry_run else client.submit(document.value, idempotency_key=key)
        except InvalidRequest as error:
            raise typer.Exit(report(to.err, error, document.source)) from error
        if isinstance(answer, Validation) or not watch:
            _show_answer(to, client, answer)
            return
        render.resolution(to.talk, answer.resolved)
        to.talk.print(Text(f"\njob {answer.id} at {client.server}\n"))
        raise _watch(to, client, answer.id)


@app.command("list")
def list_jobs(
    state: Annotated[list[JobState], typer.Option(help="Only jobs in this state; may be repeated.")] = [],  # noqa: B006
    label: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Only jobs with this label; may be repeated.")
    ] = [],  # noqa: B006
    name: Annotated[str | None, typer.Option(help="Only jobs of this name.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only jobs with this in their id, name, notes, labels or tags.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="Jobs to show.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="The page to show, from the end of the one before.")] = None,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """List jobs, newest first."""
    to = Output.of(output)
    with connected(server) as client:
        page = client.list(state=state, label=label, name=name, text=text, limit=limit, cursor=cursor)
        if to.json:
            to.body(client.last_body)
        elif page.jobs:
            render.show(to.out, render.jobs(page.jobs))
        else:
            to.note("no jobs")
        if page.next_cursor and not to.json:
            to.note(f"more with --cursor {page.next_cursor}")


@app.command()
def get(job: JobArgument, server: ServerOption = DEFAULT_SERVER, output: FormatOption = Format.TABLE) -> None:
    """Show one job."""
    to = Output.of(output)
    with connected(server) as client:
        one = client.get(job)
        if to.json:
            to.body(client.last_body)
        else:
            render.job(to.out, one)


@app.command()
def watch(job: JobArgument, server: ServerOption = DEFAULT_SERVER, output: FormatOption = Format.TABLE) -> None:
    """Follow a job to its end. Interrupting stops the watching, not the job."""
    to = Output.of(output)
    with connected(server) as client:
        client.get(job)
        raise _watch(to, client, job, history=HISTORY)


@app.command()
def cancel(
    job: JobArgument,
    no_save: Annotated[bool, typer.Option("--no-save", help="Stop at once, without a checkpoint.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Stop a job, after a checkpoint unless told otherwise."""
    to = Output.of(output)
    with connected(server) as client:
        _show_change(to, client, client.cancel(job, save=not no_save))


@app.command()
def retry(
    job: JobArgument,
    from_step: Annotated[
        int | None, typer.Option(min=0, help="Go on from this checkpoint; the newest by default.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the job to its end.")] = False,
    server: ServerOption = DEFAULT_SERVER,
    output: FormatOption = Format.TABLE,
) -> None:
    """Start an ended job again from a checkpoint, under the same id."""
    to = Output.of(output)
    with connected(server) as client:
        again = client.retry(job, from_step=from_step)
        if not watch:
            _show_change(to, client, again)
            return
        raise _watch(to, client, job, history=1)


def watch_to_end(to: Output, client: Client, job_id: str, *, history: int | None = None) -> ExitCode:
    """Follows a job and shows how it ended; of what happened before, only the last `history` events."""
    with view_on(to.talk) as view:
        follow(client, job_id, view, history=history)
    committed = client.checkpoints(job_id).checkpoints
    job = client.get(job_id)
    if to.json:
        to.body(client.last_body)
    to.talk.print()
    render.ending(to.talk, job, committed)
    if job.state is JobState.FAILED:
        to.note(f"its last words: vishwamai logs {job_id} --tail 50")
    return code_after(job.state)


def _watch(to: Output, client: Client, job_id: str, *, history: int | None = None) -> typer.Exit:
    """Watches on behalf of a command, whose interruption leaves the job alone; raise what it returns."""
    try:
        return typer.Exit(watch_to_end(to, client, job_id, history=history))
    except KeyboardInterrupt:
        to.note(
            f"\nno longer watching; the job goes on\n"
            f"watch it again: vishwamai watch {job_id}    stop it: vishwamai cancel {job_id}"
        )
        return typer.Exit(ExitCode.INTERRUPTED)


def _show_answer(to: Output, client: Client, answer: Job | Validation) -> None:
    if to.json:
        to.body(client.last_body)
        return
    render.resolution(to.out, answer.resolved)
    if isinstance(answer, Job):
        to.out.print(Text(f"\njob {answer.id} ({answer.state.value})"))
        to.note(f"follow it: vishwamai watch {answer.id}")
    else:
        to.note("\nvalid; nothing was started")


def _show_change(to: Output, client: Client, job: Job) -> None:
    if to.json:
        to.body(client.last_body)
    else:
        to.out.print(Text.assemble(f"{job.id} ", render.state_text(job.state), f": {clean(job.reason)}"))
