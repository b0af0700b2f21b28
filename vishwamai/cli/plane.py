"""How a control plane is started from here: a program of its own, told by its environment (service/settings.py)."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDS = ("service", "fastapi", "uvicorn", "sqlalchemy")
"""Modules of the `service` extra whose absence is worth a word beforehand."""

# -P keeps a folder named `service` in the current directory from standing in for ours.
COMMAND = (sys.executable, "-P", "-m", "service")


def missing() -> list[str]:
    """Modules that a control plane needs and this installation has not."""
    return [name for name in NEEDS if find_spec(name) is None]


def environment(host: str | None = None, port: int | None = None, data_dir: Path | None = None) -> dict[str, str]:
    """The environment to start it with: this process's, and what is given here."""
    given = {"VISHWAMAI_HOST": host, "VISHWAMAI_PORT": port, "VISHWAMAI_DATA_DIR": data_dir}
    return {**os.environ, **{name: str(value) for name, value in given.items() if value is not None}}
