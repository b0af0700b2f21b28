"""Following a job to its end: a bar on a terminal, plain lines in a pipe.

Each round asks for the job and then for the events after the last one seen, which the server holds back for a moment
when there are none: so events show at once and progress about once a second, over one connection and without threads.
An ended job is left only when a round that began after its end brought no more events.
"""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from vishwamai.cli import render
from vishwamai.cli.text import clean, count, duration, number
from vishwamai.client import Client, Unreachable
from vishwamai.client.patience import Patience
from vishwamai.contract.api import Job, JobEvent

ROUND = 1.0
"""Seconds the server may hold a round's events back."""
QUIET = frozenset({"phase", "sample", "effective", "finished"})
"""Kinds of events that say what the bar, the states and the summary show already."""
SHARE = 0.02
"""Share of the run between two plain lines of progress."""


class View(Protocol):
    """Shows a job as it goes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def event(self, event: JobEvent) -> None:
        """Something happened."""

    def progress(self, job: Job) -> None:
        """This is how far it is."""

    def note(self, text: str) -> None:
        """A word about the watching itself."""


def follow(
    client: Client, job_id: str, view: View, *, history: int | None = None, patience: Patience | None = None
) -> Job:
    """Shows the job until it has ended and returns it then; of what happened before, only the last `history` events.

    A control plane that goes away is waited for; Unreachable is raised when `patience` (ten minutes) is spent.
    """
    patience = patience or Patience(600.0)
    after = 0
    if history is not None:
        after = _catch_up(client, job_id, view, history)
    while True:
        try:
            job = client.get(job_id)
            if patience.in_outage:
                view.note(f"{client.server} answers again")
            patience.success()
            view.progress(job)
            page = client.event_page(job_id, after=after, wait=0.0 if job.state.is_terminal else ROUND)
        except Unreachable as error:
            if not patience.in_outage:
                view.note(f"{client.server} does not answer ({error.why}); the job goes on, and I keep trying")
            patience.failure(error)
            continue
        for event in page.events:
            view.event(event)
        after = max(after, page.last_id)
        if job.state.is_terminal and not page.events:
            return job


def _catch_up(client: Client, job_id: str, view: View, history: int) -> int:
    """Shows the last events of the past; returns the id to go on from."""
    after = 0
    recent: deque[JobEvent] = deque(maxlen=history)
    for event in client.past_events(job_id):
        after = event.id
        if event.kind not in QUIET:
            recent.append(event)
    for event in recent:
        view.event(event)
    return after


def view_on(console: Console) -> View:
    """The view that suits where the console writes."""
    return LiveView(console) if console.is_terminal else PlainView(console)


class PlainView:
    """One line for each thing that happened, and one for each two hundredths of the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to clear away."""

    def event(self, event: JobEvent) -> None:
        """Its line."""
        if event.kind not in QUIET:
            self._console.print(event_line(event), soft_wrap=True)

    def progress(self, job: Job) -> None:
        """A line when enough has been done since the last one; of an ended job the summary tells."""
        progress = job.progress
        enough = max(1, round(progress.max_steps * SHARE))
        # A restart goes back to its checkpoint, and the lines go back with it.
        if progress.step < self._shown:
            self._shown = progress.step
        if progress.step - self._shown >= enough and not job.state.is_terminal:
            self._shown = progress.step
            self._console.print(Text(progress_line(job)), soft_wrap=True)

    def note(self, text: str) -> None:
        """Its line."""
        self._console.print(Text(clean(text)), soft_wrap=True)


class LiveView:
    """A bar that stays below what happened."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            _Field(lambda task: f"{int(task.completed)}/{int(task.total or 0)}"),
            _Field(lambda task: str(task.fields["numbers"])),
            console=console,
            transient=False,
        )
        self._task = self._bar.add_task("waiting", total=None, numbers="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the bar as it stands."""
        self._bar.stop()

    def event(self, event: JobEvent) -> None:
        """A line above the bar."""
        if event.kind not in QUIET:
            self._console.print(event_line(event))

    def progress(self, job: Job) -> None:
        """Moves the bar."""
        self._bar.update(
            self._task,
            description=_doing(job),
            completed=job.progress.step,
            total=job.progress.max_steps,
            numbers=_numbers(job),
        )

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(Text(clean(text), style="yellow"))


class _Field(ProgressColumn):
    """A column of plain text; unlike TextColumn it never reads markup or format strings."""

    def __init__(self, text: Callable[[Task], str]) -> None:
        self._text = text
        super().__init__()

    def render(self, task: Task) -> Text:
        return Text(self._text(task))


def event_line(event: JobEvent) -> Text:
    """One event on one line: time, kind, message."""
    style = render.STATE_STYLES.get(event.data.get("state", ""), "") if event.kind == "state" else ""
    time = event.time.astimezone().strftime("%H:%M:%S")
    return Text.assemble((time, "dim"), f" {clean(event.kind):<10} ", (clean(event.message), style))


def progress_line(job: Job) -> str:
    """How far a job is, on one line."""
    return f"{_doing(job)} step {render.steps(job.progress)}  {_numbers(job)}".rstrip()


def _doing(job: Job) -> str:
    """The state, or what the trainer does when it does something else than training."""
    phase = job.progress.phase
    if job.state.value == "running" and phase and phase != "training":
        return clean(phase)
    return job.state.value


def _numbers(job: Job) -> str:
    progress = job.progress
    parts = []
    if progress.loss is not None:
        parts.append(f"loss {number(progress.loss)}")
    if progress.eval_loss is not None:
        parts.append(f"eval {number(progress.eval_loss)}")
    if not job.state.is_terminal:
        if progress.tokens_per_second is not None:
            parts.append(f"{count(progress.tokens_per_second)} tok/s")
        if progress.eta_seconds is not None:
            parts.append(f"ETA {duration(progress.eta_seconds)}")
    return "  ".join(parts)
