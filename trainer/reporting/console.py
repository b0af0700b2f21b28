"""One clean line per event, for people who watch the trainer's stderr."""

from typing import Any, TextIO, assert_never

from trainer.reporting.reporter import Sink
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


class Console(Sink):
    """Prints events as plain lines."""

    def __init__(self, stream: TextIO, max_steps: int) -> None:
        self._stream = stream
        self._max_steps = max_steps

    def receive(self, event: AnyEvent) -> None:
        """Prints the event if people want to see it."""
        line = self._line(event)
        if line:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _line(self, event: AnyEvent) -> str | None:
        match event:
            case StepEvent():
                return self._step(event)
            case EvalEvent():
                return (
                    f"{event.name} {event.step}/{self._max_steps}  loss {event.loss:.4f}"
                    f"  perplexity {event.perplexity:.4g}  ({event.tokens} tokens, {event.seconds:.1f} s)"
                )
            case CheckpointEvent():
                return _checkpoint(event)
            case LogEvent():
                return event.message if event.level in ("debug", "info") else f"{event.level}: {event.message}"
            case FinishedEvent():
                return f"{_ENDS.get(event.cause, 'error')}: {event.message}"
            case SampleEvent():
                return "sample:\n" + "\n".join("    " + line for line in (event.prompt + event.text).splitlines())
            case EffectiveEvent():
                return _effective(event.settings)
            case PhaseEvent():
                return event.message
            case _:
                assert_never(event)

    def _step(self, event: StepEvent) -> str:
        left = (self._max_steps - event.step) * event.step_seconds
        return (
            f"step {event.step}/{self._max_steps}  loss {event.loss:.4f}  lr {event.learning_rate:.2e}"
            f"  {thousands(event.tokens_per_second)} tok/s  eta {duration(left)}"
        )


_ENDS = {Cause.COMPLETED: "finished", Cause.PREEMPTED: "stopped", Cause.CANCELLED: "cancelled"}


def _effective(settings: dict[str, Any]) -> str:
    mesh = " ".join(f"{axis}={size}" for axis, size in settings["mesh"].items() if size > 1)
    return (
        f"{thousands(settings['parameters'])} parameters in {settings['precision']['compute']} on"
        f" {settings['devices']} x {settings['device_kind']}{f' ({mesh})' if mesh else ''},"
        f" {thousands(settings['data']['tokens'])} training tokens,"
        f" {thousands(settings['tokens_per_step'])} in each step"
    )


def _checkpoint(event: CheckpointEvent) -> str | None:
    match event.action:
        case "committed":
            size = "" if event.size_bytes is None else f"  {thousands(event.size_bytes)}B"
            took = "" if event.seconds is None else f"  {event.seconds:.1f} s"
            return f"saved step {event.step}{size}{took}"
        case "restored":
            return f"restored step {event.step} from {event.path}"
        case "failed" | "corrupt":
            return f"warning: checkpoint of step {event.step} {event.action}: {event.message or event.path}"
        case "deleted":
            return None


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
