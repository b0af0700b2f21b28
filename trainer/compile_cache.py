"""Programs compiled once: a restart, and the next run of the same shape, read them from a folder.

JAX keys a program by its text, compile options, version, flags and the devices with what their processors can do, and
gives back the very bytes that were compiled: what is computed does not change by a bit. Must be set up before jax is
imported, because jax reads the environment only then.
"""

import logging
from collections.abc import MutableMapping
from pathlib import Path

import filelock

_LOG = logging.getLogger(__name__)

FOLDER = "JAX_COMPILATION_CACHE_DIR"
_LIMITS = {
    "JAX_COMPILATION_CACHE_MAX_SIZE": str(2 * 2**30),  # the least recently used give way
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
_PATIENCE = 10.0
"""Seconds to wait for another process that reads or writes there, as JAX itself does."""


def keep_compiled(folder: Path, environ: MutableMapping[str, str]) -> None:
    """Lets JAX keep compiled programs in the folder, unless the environment names one of its own.

    A folder that cannot be written to costs the time to compile, and a warning.
    """
    if environ.get(FOLDER):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _drop_half_written(folder)
    except OSError as error:
        _LOG.warning("compiled programs are not kept: %s cannot be written to: %s", folder, error.strerror)
        return
    environ[FOLDER] = str(folder.absolute())
    for name, value in _LIMITS.items():
        environ.setdefault(name, value)


def _drop_half_written(folder: Path) -> None:
    """A process killed while it wrote a program leaves a part of it, which JAX would complain of ever after.

    The time of use is written behind the program, so a program without one is not whole.
    """
    try:
        with filelock.FileLock(folder / ".lockfile", timeout=_PATIENCE):
            for program in folder.glob("*-cache"):
                if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
                    program.unlink(missing_ok=True)
    except filelock.Timeout:
        _LOG.debug("another process holds %s", folder)
