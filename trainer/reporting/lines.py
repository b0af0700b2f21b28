"""What an event reads like: the lines of the run's log, on the console, in log.jsonl and at the control plane."""

import re
from collections.abc import Iterator
from typing import Any, Literal, assert_never

from vishwamai.contract.reports import (
    AnyEvent,
    CheckpointEvent,
    EffectiveEvent,
    EvalEvent,
    FinishedEvent,
    LogEvent,
    PhaseEvent,
    SampleEvent,
    StepEvent,
)
from vishwamai.contract.states import Cause

LONGEST_LINE = 8192
"""Characters of a line that are kept."""

_Level = Literal["debug", "info", "warning", "error"]
_GOOD_ENDS = {Cause.COMPLETED, Cause.PREEMPTED, Cause.CANCELLED}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Terminals obey them, and texts that models write hold them."""


def log_lines(event: AnyEvent, max_steps: int) -> Iterator[LogEvent]:
    """The event as log lines: none when it is of no interest to people, several for a text of several lines."""
    level, text = _read(event, max_steps)
    for line in text.split("\n") if text else ():
        line = _CONTROL.sub("\ufffd", line)
        if len(line) > LONGEST_LINE:
            line = line[:LONGEST_LINE] + " [...]"
        yield LogEvent(time=event.time, level=level, message=line)


def _read(event: AnyEvent, max_steps: int) -> tuple[_Level, str]:
    match event:
        case LogEvent():
            return event.level, event.message
        case StepEvent():
            return "info", _step(event, max_steps)
        case EvalEvent():
            return "info", (
                f"{event.name} {event.step}/{max_steps}  loss {event.loss:.4f}"
                f"  perplexity {event.perplexity:.4g}  ({event.tokens} tokens, {event.seconds:.1f} s)"
            )
        case CheckpointEvent():
            return _checkpoint(event)
        case FinishedEvent():
            return "info" if event.cause in _GOOD_ENDS else "error", event.message
        case SampleEvent():
            return "info", "sample:\n" + "\n".join("    " + line for line in (event.prompt + event.text).splitlines())
        case EffectiveEvent():
            return "info", _effective(event.settings)
        case PhaseEvent():
            return "info", event.message or ""
        case _:
            assert_never(event)


def _step(event: StepEvent, max_steps: int) -> str:
    left = (max_steps - event.step) * event.step_seconds
    loss = "no number" if event.loss is None else f"{event.loss:.4f}"
    skipped = "" if event.finite else " (skipped)"
    return (
        f"step {event.step}/{max_steps}  loss {loss}{skipped}  lr {event.learning_rate:.2e}"
        f"  {thousands(event.tokens_per_second)} tok/s  eta {duration(left)}"
    )


def _effective(settings: dict[str, Any]) -> str:
    mesh = " ".join(f"{axis}={size}" for axis, size in settings["mesh"].items() if size > 1)
    return (
        f"{thousands(settings['parameters'])} parameters in {settings['precision']['compute']} on"
        f" {settings['devices']} x {settings['device_kind']}{f' ({mesh})' if mesh else ''},"
        f" {thousands(settings['data']['tokens'])} training tokens,"
        f" {thousands(settings['tokens_per_step'])} in each step"
    )


def _checkpoint(event: CheckpointEvent) -> tuple[_Level, str]:
    match event.action:
        case "committed":
            size = "" if event.size_bytes is None else f"  {thousands(event.size_bytes)}B"
            took = "" if event.seconds is None else f"  {event.seconds:.1f} s"
            return "info", f"saved step {event.step}{size}{took}"
        case "restored":
            return "info", f"restored step {event.step} from {event.path}"
        case "failed" | "corrupt":
            return "warning", event.message or f"checkpoint {event.path} {event.action}"
        case "deleted":  # retention goes on all the time and says nothing
            return "info", f"checkpoint of step {event.step}: {event.message}" if event.message else ""


def thousands(number: float) -> str:
    """12345.0 as '12.3k'."""
    for unit in ("", "k", "M", "G"):
        if abs(number) < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}T"


def duration(seconds: float) -> str:
    """3723.4 as '1:02:03', 42 as '0:42'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
