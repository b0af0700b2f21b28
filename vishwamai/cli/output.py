"""Where a command writes: answers on stdout, words about them on stderr."""

import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum

from rich.console import Console

from vishwamai.cli.text import clean

PIPED_WIDTH = 120
"""Columns when nobody's terminal says otherwise."""


class Format(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"


def console(*, stderr: bool = False) -> Console:
    """A console that shows brackets as brackets, and colours on a terminal only."""
    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = shutil.get_terminal_size((PIPED_WIDTH, 25)).columns
    return made


@dataclass(frozen=True, slots=True)
class Output:
    """The two consoles of one command, and the format asked for."""

    format: Format
    out: Console
    err: Console

    @classmethod
    def of(cls, format: Format) -> "Output":
        """Consoles on the process's present stdout and stderr."""
        return cls(format, console(), console(stderr=True))

    @property
    def json(self) -> bool:
        """True when stdout is for programs."""
        return self.format is Format.JSON

    @property
    def talk(self) -> Console:
        """Where progress and reports for people go: stdout, unless that is for programs."""
        return self.err if self.json else self.out

    def note(self, text: str) -> None:
        """A word to the person at the keyboard, on stderr."""
        self.err.print(clean(text, lines=True), style="dim", soft_wrap=True)

    def body(self, text: str) -> None:
        """An API body, verbatim, on stdout."""
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
