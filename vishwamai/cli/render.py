"""Answers for people: tables and paragraphs made of the contract's values.

Every string from elsewhere goes through `clean` (text.py) on its way in.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vishwamai.cli.text import clean, count, duration, number, shortened, shown, size
from vishwamai.contract.api import AcceleratorFacts, Attempt, Checkpoint, Goodput, Job, JobSummary, Progress
from vishwamai.contract.problems import Notice, Problem
from vishwamai.contract.resolved import Decision, ResolvedJob
from vishwamai.contract.states import CAUSES, JobState

GAP = 2
"""Spaces between columns."""
LAST_COLUMN = 28
"""Columns that the sentences of a table need to be readable."""
STATE_STYLES: dict[str, str] = {
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "yellow",
    JobState.RESTARTING: "yellow",
}


def table(*headings: str) -> Table:
    """A table without lines, which reads as well in a pipe as on a terminal; its last column is the one that wraps."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for heading in headings:
        made.add_column(heading, overflow="fold", no_wrap=heading != headings[-1])
    return made


def show(console: Console, made: Table) -> None:
    """Prints a table; where the last column has no room left, each row as a line with that column below it."""
    longest = [max(cell_len(str(cell)) for cell in (column.header, *column.cells)) for column in made.columns]
    widths = [min(width, column.max_width or width) for width, column in zip(longest, made.columns, strict=True)]
    if console.width - sum(width + GAP for width in widths[:-1]) >= min(widths[-1], LAST_COLUMN):
        console.print(made)
        return
    rows = zip(*(column.cells for column in made.columns), strict=True)
    console.print(Text(" · ".join(str(column.header) for column in made.columns), style="bold"))
    for *cells, last in rows:
        said = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in cells if str(cell)]
        console.print(Text(" · ").join(said))
        console.print(Padding(last, (0, 0, 0, 2)))


def state_text(state: JobState) -> Text:
    """The state in its colour."""
    return Text(state.value, style=STATE_STYLES.get(state, ""))


def decisions(items: Sequence[Decision]) -> Table:
    """What was asked, what runs, and why."""
    made = table("setting", "requested", "effective", "why")
    for column in made.columns[1:3]:
        column.max_width, column.no_wrap = 24, False
    for one in items:
        made.add_row(clean(one.setting), shown(one.requested, 96), shown(one.effective, 96), clean(one.why))
    return made


def notices(console: Console, items: Sequence[Notice]) -> None:
    """Warnings, each with its fix."""
    for notice in items:
        word, style = ("blocked", "bold red") if notice.blocks_launch else ("warning", "yellow")
        line = Text.assemble((f"{word}: ", style), clean(notice.message))
        if notice.pointer:
            line.append(f" [{clean(notice.pointer)}]", style="dim")
        console.print(line)
        if notice.fix:
            console.print(Text(f"  fix: {clean(notice.fix)}"))


def problems(console: Console, items: Iterable[Problem], place: Callable[[str], str]) -> None:
    """What is wrong with a config, one thing after the other; `place` says where a pointer's value was written."""
    said: set[str] = set()
    for problem in items:
        pointer = clean(problem.pointer)
        source = clean(place(problem.pointer))
        where = (f"({source})", "dim") if pointer and source else source
        colon = ": " if pointer or source else ""
        space = " " if pointer and source else ""
        console.print(Text.assemble((pointer, "bold"), space, where, colon, clean(problem.message)), soft_wrap=True)
        # The same long list of names, or what the message ends with, is read once.
        if problem.accepted and problem.accepted not in said and not problem.message.endswith(problem.accepted):
            said.add(problem.accepted)
            console.print(Text(f"  accepted: {clean(problem.accepted)}"), soft_wrap=True)
        if problem.hint:
            console.print(Text(f"  hint: {clean(problem.hint)}"), soft_wrap=True)


def jobs(items: Sequence[JobSummary], now: datetime | None = None) -> Table:
    """A list of jobs, one a row."""
    now = now or datetime.now(UTC)
    made = table("id", "name", "state", "step", "loss", "tokens/s", "age", "reason")
    for job in items:
        made.add_row(
            clean(job.id),
            shortened(clean(job.name), 32),
            state_text(job.state),
            steps(job.progress),
            number(job.progress.loss),
            count(job.progress.tokens_per_second) if not job.state.is_terminal else "—",
            duration((now - job.created_at).total_seconds()),
            clean(job.reason),
        )
    return made


def steps(progress: Progress) -> str:
    """Steps done of steps to do."""
    return f"{progress.step}/{progress.max_steps}"


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Names and values in two columns; values that are None are left out."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, value if isinstance(value, Text) else clean(str(value), lines=True))
    return made


def resolved_facts(resolved: ResolvedJob) -> Table:
    """The resolved job in a few lines: where it runs and how large it is."""
    hardware, mesh, batch = resolved.hardware, resolved.mesh, resolved.batch
    axes = " × ".join(f"{name} {length}" for name, length in mesh.model_dump().items() if length > 1) or "one device"
    where = f"{hardware.num_slices} × {hardware.accelerator} {hardware.topology} ({hardware.machine_type})"
    what = f"{_many(hardware.devices, 'device')} on {_many(hardware.hosts, 'host')}"
    rehearsed = ", rehearsed on this machine's CPU" if hardware.platform == "cpu" else ""
    return facts(
        [
            ("model", f"{count(resolved.parameters)} parameters"),
            ("slice", f"{where}: {what}{rehearsed}"),
            ("mesh", axes),
            ("batch", f"{_many(batch.sequences_per_step, 'sequence')}, {batch.tokens_per_step:,} tokens a step"),
            ("steps", resolved.effective.training.max_steps),
        ]
    )


def resolution(console: Console, resolved: ResolvedJob) -> None:
    """What a config became: size and place, decisions, warnings."""
    console.print(resolved_facts(resolved))
    if resolved.decisions:
        console.print()
        show(console, decisions(resolved.decisions))
    if resolved.warnings:
        console.print()
        notices(console, resolved.warnings)


def job(console: Console, one: Job) -> None:
    """One job on a page."""
    progress = one.progress
    console.print(
        facts(
            [
                ("id", one.id),
                ("name", one.name),
                ("state", state_text(one.state)),
                ("reason", one.reason),
                ("step", f"{steps(progress)} ({progress.fraction:.0%})"),
                ("phase", None if one.state.is_terminal else progress.phase),
                ("loss", _measured(progress.loss)),
                ("eval loss", _measured(progress.eval_loss)),
                ("tokens", count(progress.tokens)),
                ("tokens/s", _measured(progress.tokens_per_second, count)),
                ("ETA", _measured(progress.eta_seconds, duration)),
                ("created", moment(one.created_at)),
                ("ended", moment(one.ended_at) if one.ended_at else None),
                ("labels", ", ".join(f"{key}={value}" for key, value in one.labels.items()) or None),
                ("tags", ", ".join(one.tags) or None),
                ("restarts left", one.restarts_left),
                ("goodput", _goodput(one.goodput)),
                ("checkpoint", f"step {one.last_checkpoint.step}" if one.last_checkpoint else None),
                ("files", one.output),
            ]
        )
    )
    console.print(resolved_facts(one.resolved))
    if one.attempts:
        console.print()
        show(console, attempts(one.attempts))
    if one.warnings:
        console.print()
        notices(console, one.warnings)


def attempts(items: Sequence[Attempt]) -> Table:
    """The lives of a job."""
    made = table("attempt", "started", "took", "from", "steps", "lost", "exit codes", "cause", "message")
    for one in items:
        ended = (one.ended_at - one.started_at).total_seconds() if one.ended_at else None
        span = "—" if one.first_step is None else f"{one.first_step}–{'' if one.last_step is None else one.last_step}"
        codes = ", ".join(
            f"{host}: {code}" if len(one.exit_codes) > 1 else str(code) for host, code in one.exit_codes.items()
        )
        cause = one.cause.value if one.cause else "—"
        made.add_row(
            str(one.number),
            moment(one.started_at),
            duration(ended),
            _or_dash(one.resumed_from),
            span,
            _or_dash(one.lost_steps),
            codes or "—",
            cause,
            clean(one.message or "—"),
        )
    return made


def checkpoints(items: Sequence[Checkpoint]) -> Table:
    """Committed checkpoints."""
    made = table("step", "committed", "size", "took", "attempt", "path")
    for one in items:
        took = "—" if one.seconds is None else f"{one.seconds:.1f}s"
        made.add_row(
            str(one.step), moment(one.committed_at), size(one.size_bytes), took, str(one.attempt), clean(one.path)
        )
    return made


def accelerators(items: Sequence[AcceleratorFacts]) -> Table:
    """The catalogue, one machine type a row."""
    made = table("accelerator", "machine type", "chips/host", "devices/chip", "HBM/device", "bf16/chip", "topologies")
    for one in items:
        for machine in one.machines:
            shapes = [*machine.single_host_topologies, *machine.multi_host_topologies]
            made.add_row(
                clean(one.name),
                clean(machine.machine_type),
                str(machine.chips),
                str(one.devices_per_chip),
                size(one.hbm_bytes_per_device),
                f"{one.peak_bf16_flops_per_chip / 1e12:.0f} TFLOP/s",
                clean(" ".join(dict.fromkeys(shapes))),
            )
    return made


def ending(console: Console, one: Job, committed: Sequence[Checkpoint]) -> None:
    """How a job ended: the numbers that matter, the sample, and where everything is."""
    progress = one.progress
    took = (one.ended_at - one.created_at).total_seconds() if one.ended_at else None
    kept = ", ".join(str(checkpoint.step) for checkpoint in committed)
    console.print(
        facts(
            [
                ("state", state_text(one.state)),
                ("reason", one.reason),
                ("steps", steps(progress)),
                ("loss", _measured(progress.loss)),
                ("eval loss", _measured(progress.eval_loss)),
                ("perplexity", _measured(progress.eval_loss, _perplexity)),
                ("tokens", f"{progress.tokens:,}"),
                ("duration", _measured(took, duration)),
                ("attempts", len(one.attempts)),
                ("goodput", _goodput(one.goodput)),
                ("checkpoints", f"steps {kept}" if kept else "none"),
                ("files", one.output),
            ]
        )
    )
    if one.sample and one.state is JobState.SUCCEEDED:
        console.print(Text("\nsample the model wrote", style="bold"))
        console.print(Text(clean(one.sample, lines=True)))
    last = one.attempts[-1] if one.attempts else None
    if one.state is JobState.FAILED and last and last.cause:
        console.print(Text(f"hint: {CAUSES[last.cause].hint}", style="yellow"))


def moment(time: datetime) -> str:
    """A time of day here, with its date."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _measured(value: float | None, render: Callable[[float], str] = number) -> str | None:
    return None if value is None else render(value)


def _or_dash(value: int | None) -> str:
    return "—" if value is None else str(value)


def _goodput(account: Goodput | None) -> str | None:
    """80% of 1h 2m  (compile 5%, between 4%, eval 3%; 12 steps lost)."""
    if account is None or account.wall_seconds <= 0:
        return None
    other = {name: seconds for name, seconds in account.seconds.items() if name != "step"}
    if account.lost_seconds:
        other["lost steps"] = account.lost_seconds
    shares = {name: seconds / account.wall_seconds for name, seconds in other.items()}
    most = sorted((name for name, share in shares.items() if share >= 0.01), key=lambda name: -shares[name])
    rest = ", ".join(f"{clean(name)} {shares[name]:.0%}" for name in most[:4])
    lost = f"{account.lost_steps} steps lost" if account.lost_steps else ""
    words = "; ".join(filter(None, (rest, lost)))
    share = account.productive_seconds / account.wall_seconds
    return f"{share:.0%} of {duration(account.wall_seconds)}" + (f" ({words})" if words else "")


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _perplexity(loss: float) -> str:
    return f"{math.exp(min(loss, 700.0)):.2f}"
