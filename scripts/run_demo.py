"""`make run`: start a control plane, train examples/tiny.json on this machine, and show how it went.

Exit code 0 when the job succeeded and its final evaluation loss is at least 35% under that of guessing, ln(vocab_size).
Interrupted, it cancels the job and stops the control plane, so that nothing goes on in the background.
"""

import argparse
import contextlib
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.table import Table
from rich.text import Text

from vishwamai.cli import plane, render
from vishwamai.cli.configs import config_in
from vishwamai.cli.exits import ExitCode
from vishwamai.cli.failures import report
from vishwamai.cli.jobs import watch_to_end
from vishwamai.cli.output import Format, Output
from vishwamai.cli.text import clean, number
from vishwamai.client import Client, ClientError, ServerFault, Unreachable
from vishwamai.client.connection import Connection
from vishwamai.contract.api import Job, MetricsPage
from vishwamai.contract.states import JobState

ROOT = Path(__file__).resolve().parent.parent
LEARNED = 0.65
"""Final evaluation loss over ln(vocab_size), at most."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the demo trains, and where everything goes."""

    config: Path
    runs: Path

    @property
    def log(self) -> Path:
        """What the control plane says."""
        return self.runs / "control-plane.log"


def main() -> int:
    """Runs the demo and returns its exit code."""
    parser = argparse.ArgumentParser(
        description="Start a control plane, train a config on this machine, show how it went."
    )
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "examples" / "tiny.json", help="what to train")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "runs", help="folder of the control plane")
    arguments = parser.parse_args()
    place = Place(arguments.config, arguments.data_dir.absolute())
    to = Output.of(Format.TABLE)
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _interrupt)
    try:
        with control_plane(place) as client:
            return demonstrate(to, client, place)
    except DemoError as error:
        to.err.print(Text.assemble(("error: ", "bold red"), clean(str(error), lines=True)), soft_wrap=True)
        return ExitCode.SERVER_ERROR
    except ClientError as error:
        return report(to.err, error)
    except typer.Exit as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        to.note("\ninterrupted; the control plane is stopped")
        return ExitCode.INTERRUPTED


def demonstrate(to: Output, client: Client, place: Place) -> int:
    """Submits the example, follows it to its end and judges what it learned."""
    document = config_in(to, str(place.config))
    job = client.submit(document.value)
    try:
        heading(to, f"{near(place.config)} is job {job.id} at {client.server}; what was decided, and why")
        render.resolution(to.out, job.resolved)
        heading(to, "Training")
        watch_to_end(to, client, job.id)
    except KeyboardInterrupt:
        cancel(to, client, place, job.id)
        raise
    job = client.get(job.id)
    if job.state is not JobState.SUCCEEDED:
        last_words(to, client, job)
        return ExitCode.JOB_FAILED
    heading(to, "How it learned")
    to.out.print(losses(client.metrics(job.id, max_points=2000)))
    code = judge(to, job)
    where_and_next(to, place, job)
    return code


def judge(to: Output, job: Job) -> int:
    """Says whether the evaluation loss fell far enough, and returns the exit code for it."""
    guessing = math.log(job.resolved.effective.model.vocab_size)
    final = job.progress.eval_loss
    if final is None or final > LEARNED * guessing:
        message = f"the final evaluation loss {number(final)} is not 35% under ln(vocab_size) = {number(guessing)}"
        to.err.print(Text(f"error: {message}", style="bold red"))
        return ExitCode.JOB_FAILED
    to.out.print(
        f"\nGuessing costs ln({job.resolved.effective.model.vocab_size}) = {guessing:.4f} nats a token; "
        f"this model needs {final:.4f}, {1 - final / guessing:.0%} less."
    )
    return ExitCode.OK


def losses(page: MetricsPage, rows: int = 10) -> Table:
    """Evaluations over the run, at most `rows` of them, each with the training loss at its step or just before."""
    series = {one.name: dict(zip(one.steps, one.values, strict=True)) for one in page.series}
    trained, held_out = series.get("loss", {}), series.get("eval_loss", {})
    steps = sorted(held_out)
    if len(steps) > rows:
        steps = [steps[round(at * (len(steps) - 1) / (rows - 1))] for at in range(rows)]
    table = render.table("step", "loss", "eval loss", "perplexity")
    for step in steps:
        before = [at for at in trained if at <= step]
        loss = trained[max(before)] if before else None
        table.add_row(str(step), number(loss), number(held_out[step]), f"{math.exp(held_out[step]):.2f}")
    return table


def where_and_next(to: Output, place: Place, job: Job) -> None:
    """Where everything is, and what to try now."""
    here = near(Path(job.output))
    heading(to, "Where everything is")
    to.out.print(
        render.facts(
            [
                ("checkpoints", f"{here}/checkpoints"),
                ("resolved config", f"{here}/resolved.json"),
                ("every measurement", f"{here}/metrics.jsonl"),
                ("the service's record", near(place.runs / "service.sqlite3")),
                ("the service's log", near(place.log)),
            ]
        )
    )
    heading(to, "What to try next")
    command = ".venv/bin/vishwamai"
    to.out.print(
        render.facts(
            [
                ("leave the control plane running", "make serve"),
                ("then see its jobs", f"{command} list"),
                ("train for longer", f"{command} submit examples/tiny.json --watch --set training.max_steps=1200"),
                (
                    "train on your own text",
                    f"{command} submit examples/tiny.json --watch --set 'data.train=[\"/path/to/*.txt\"]'",
                ),
                ("learn what a setting means", f"{command} explain training.learning_rate"),
            ]
        )
    )


def last_words(to: Output, client: Client, job: Job) -> None:
    """Why the job ended, and the last lines of its log."""
    to.err.print(
        Text(f"\nerror: job {job.id} {job.state.value}: {clean(job.reason)}", style="bold red"), soft_wrap=True
    )
    for line in client.logs(job.id, tail=20):
        to.err.print(Text(f"  {clean(line.message)}"), soft_wrap=True)


def cancel(to: Output, client: Client, place: Place, job_id: str) -> None:
    """Ends the job and waits until it has ended; a second Ctrl-C does not leave it running."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    to.note("cancelling the job")
    client.cancel(job_id, save=False)
    deadline = time.monotonic() + STOP_SECONDS
    after = 0
    while not client.get(job_id).state.is_terminal:
        if time.monotonic() > deadline:
            raise DemoError(f"job {job_id} did not end within {STOP_SECONDS:.0f} s; see {place.log}")
        after = client.event_page(job_id, after=after, wait=1.0).last_id


@contextlib.contextmanager
def control_plane(place: Place) -> Iterator[Client]:
    """A control plane on a free port of this machine, ready; stopped afterwards."""
    place.runs.mkdir(parents=True, exist_ok=True)
    with place.log.open("ab") as log:
        began = log.tell()
        port = free_port()
        process = subprocess.Popen(
            plane.COMMAND,
            env=plane.environment("127.0.0.1", port, place.runs),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Out of the terminal's reach: Ctrl-C cancels the job first, and that takes a control plane.
            start_new_session=True,
        )
        try:
            with Client(connection=Connection(f"http://127.0.0.1:{port}")) as client:
                wait_until_ready(client, process, place.log, began)
                yield client
        finally:
            stop(process)


def wait_until_ready(client: Client, process: subprocess.Popen[bytes], log: Path, began: int) -> None:
    """Returns when the control plane can take jobs; raises DemoError with its own words when it ends instead."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None:
            raise DemoError(f"the control plane did not start: {last_words_of_service(log, began)}")
        try:
            client.ready()
            return
        except (Unreachable, ServerFault) as error:
            if time.monotonic() > deadline:
                raise DemoError(f"the control plane is not ready after {START_SECONDS:.0f} s; see {log}") from error


def last_words_of_service(log: Path, began: int) -> str:
    """What the control plane said on its way out: its lines for people, or all of them when there are none."""
    said = log.read_bytes()[began:].decode(errors="replace").splitlines()
    words = "\n".join([line for line in said if line and not line.startswith("{")] or said[-20:])
    if "another service" in words:
        words += (
            "\nIs `make serve` or another `make run` going on? End it and try again, or use it: "
            ".venv/bin/vishwamai submit examples/tiny.json --watch"
        )
    return words


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the control plane, gently first."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def near(path: Path) -> Path:
    """The path as seen from the repository, where it is in there."""
    whole = path.absolute()
    return whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole


def heading(to: Output, text: str) -> None:
    """A line that begins a part of the output."""
    to.out.print(Text(f"\n{text}\n", style="bold"))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
