"""The run's own files: metrics.jsonl, log.jsonl and sample.txt.

metrics.jsonl has one object per logged step or evaluation. A run that goes on from step S forgets what an earlier
life wrote of later steps, so that a reader meets every step once. log.jsonl keeps all
else, from every life; its objects of kind `log` are the lines of the console.
"""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

from trainer.reporting.reporter import Sink
from vishwamai.contract.reports import AnyEvent, EvalEvent, SampleEvent, StepEvent

METRICS = "metrics.jsonl"
LOG = "log.jsonl"
SAMPLE = "sample.txt"


class Journal(Sink):
    """Writes events under a folder as they come; a line is on its way to the disk when `receive` returns."""

    def __init__(self, folder: Path, attempt: int = 1) -> None:
        self._folder = folder
        self._attempt = attempt
        self._metrics = LineFile(folder / METRICS)
        self._log = LineFile(folder / LOG)

    def resume(self, step: int, evaluated: int) -> None:
        """Forgets what comes again: steps beyond `step`, evaluations beyond `evaluated`, and lines that are spoilt."""
        last = {"step": step, "eval": min(step, evaluated)}
        self._metrics.keep(lambda line: _place(line)[1] in range(last.get(_place(line)[0], -1) + 1))

    def receive(self, event: AnyEvent) -> None:
        """Steps and evaluations go to metrics.jsonl, all else to log.jsonl, the sample also to sample.txt."""
        line = _line(event, self._attempt)
        if isinstance(event, StepEvent | EvalEvent):
            self._metrics.append(line)
            return
        self._log.append(line)
        if isinstance(event, SampleEvent):
            (self._folder / SAMPLE).write_text(event.prompt + event.text + "\n", encoding="utf-8")

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._log.close()


class LineFile:
    """Appends whole lines; a line that a dying process or a full disk left half written goes away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._drop_half_line()

    def append(self, line: bytes) -> None:
        """Writes one line or, with an OSError, nothing of it."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, "only a part of a line could be written", str(self._path))
        except OSError:
            self._file.truncate(end)
            raise

    def keep(self, wanted: Callable[[bytes], bool]) -> None:
        """Leaves only the lines that are wanted, all at once."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if wanted(line)]
        if len(kept) == len(lines):
            return
        draft = self._path.with_suffix(".draft")
        draft.write_bytes(b"".join(kept))
        draft.replace(self._path)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _drop_half_line(self) -> None:
        text = self._path.read_bytes()
        if not text.endswith(b"\n"):
            self._file.truncate(text.rfind(b"\n") + 1)


def _line(event: AnyEvent, attempt: int) -> bytes:
    fields = event.model_dump(mode="json", exclude_none=True)
    ordered = {"kind": fields.pop("kind")} | ({"step": fields.pop("step")} if "step" in fields else {})
    return (json.dumps(ordered | fields | {"attempt": attempt}, ensure_ascii=False) + "\n").encode()


def _place(line: bytes) -> tuple[str, int]:
    """Kind and step of a line; of one that a crash of the machine spoilt, nothing that is ever kept."""
    try:
        fields = json.loads(line)
        return str(fields["kind"]), int(fields["step"])
    except (ValueError, KeyError, TypeError):
        return "", -1
