"""Locations of a config to files: paths and addresses, globs expanded, saved datasets opened up."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from trainer.data.sources import saved
from trainer.data.sources.kinds import compression_of, is_archive
from trainer.data.sources.streams import decompressed
from trainer.errors import UserError
from trainer.remote import Remote, blamed, is_address, remote, version
from vishwamai.contract.config import BUILTIN_CORPUS

_BUFFER = 2**20


@dataclass(frozen=True)
class SourceFile:
    """A file that `expand` gave; `field` is the setting that named it."""

    name: str
    field: str

    @cached_property
    def place(self) -> Path | Remote:
        """Where it is."""
        return remote(self.name, self.field) if is_address(self.name) else Path(self.name)

    def __str__(self) -> str:
        """How messages begin that are about it."""
        return f"{self.field}: {self.name!r}"

    def blamed(self) -> AbstractContextManager[None]:
        """Turns what goes wrong with its disk or store into an error that names it."""
        return blamed(self.name, self.field)

    def seekable(self) -> BinaryIO:
        """Its bytes as they are stored. Raises UserError where they are compressed: what seeks cannot read that."""
        if kind := compression_of(self.name):
            raise UserError(
                f"{self} is compressed by {kind} as a whole, and its format is read in pieces: unpack it first"
            )
        return self._raw()

    def stream(self) -> BinaryIO:
        """Its bytes from begin to end, decompressed where its name says so."""
        kind = compression_of(self.name)
        return self._raw() if kind is None else decompressed(self._raw(), kind, str(self))

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """A path on this machine, for libraries that need one: an object is copied to a temporary file."""
        self.seekable().close()
        if isinstance(self.place, Path):
            yield self.place
            return
        with TemporaryDirectory(prefix="vishwamai-") as folder:
            copy = Path(folder) / "records"
            self.place.download(copy)
            yield copy

    def _raw(self) -> BinaryIO:
        return self.place.open("rb", buffering=_BUFFER) if isinstance(self.place, Path) else self.place.open()


def expand(locations: list[str], field: str) -> list[str]:
    """The files that locations mean, each once.

    Globs (`**` too) are expanded and sorted, folders of saved datasets opened up; the demo corpus goes by its name.
    Raises UserError for what cannot be read, StorageError where a store fails.
    """
    found: dict[str, None] = {}
    for location in locations:
        found.update(dict.fromkeys(_files(location, field)))
    return list(found)


def traits(names: list[str]) -> dict[str, list[str]]:
    """What tells one version of each file from another: sizes, times of change, versions of objects."""
    told: dict[str, list[str]] = {}
    folders: dict[str, list[str]] = {}
    for name in names:
        if is_address(name):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
        else:
            with blamed(name, "data"):
                stat = Path(name).stat()
            told[name] = [str(stat.st_size), str(stat.st_mtime_ns)]
    for folder, wanted in folders.items():
        told |= _versions(folder, wanted)
    return told


def _versions(folder: str, wanted: list[str]) -> dict[str, list[str]]:
    """Versions of objects of one folder: a listing costs less than a question for each."""
    if len(wanted) == 1:
        infos = {wanted[0]: remote(wanted[0], "data").info()}
    else:
        above = remote(folder, "data")
        infos = {above.at(entry["name"]).address: entry for entry in above.entries()}
    found = {}
    for name in wanted:
        if (info := infos.get(name)) is None:
            raise UserError(f"data: there is no {name!r}")
        found[name] = version(info)
    return found


def _files(location: str, field: str) -> list[str]:
    if location == BUILTIN_CORPUS:
        return [location]
    if location.startswith("file://"):
        location = location.removeprefix("file://")
    return _remote_files(location, field) if is_address(location) else _local_files(location, field)


def _remote_files(location: str, field: str) -> list[str]:
    place = remote(location, field)
    info = place.info()
    if info is None and has_magic(location):
        if not (found := place.matches()):
            place.check_bucket()
            raise UserError(f"{field}: no object matches {location!r}")
        names = [place.at(path).address for path in found]
    elif info is None:
        place.check_bucket()
        raise UserError(f"{field}: there is no object {location!r}")
    elif info["type"] == "directory":
        below = {entry["name"].rpartition("/")[2] for entry in place.entries()}
        return saved.files(location, field, below, lambda name: (place / name).read_bytes()) or _refuse(location, field)
    else:
        names = [place.address]
    return [_no_archive(name, field) for name in names]


def _local_files(location: str, field: str) -> list[str]:
    path = Path(location).expanduser()
    if has_magic(location) and not path.exists():
        # Unlike Path.glob, this leaves hidden files out.
        matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]  # noqa: PTH207
        paths = [match.resolve() for match in matches if match.is_file()]
        if not paths:
            raise UserError(f"{field}: no file matches {location!r} (looked from {Path.cwd()})")
        return [_no_archive(str(found), field) for found in paths]
    path = Path(os.path.realpath(path))  # unlike Path.resolve, this takes a link that leads to itself
    if path.is_dir():
        below = {entry.name for entry in path.iterdir()}
        return saved.files(str(path), field, below, lambda name: (path / name).read_bytes()) or _refuse(
            str(path), field
        )
    if not path.is_file():
        if path.exists():  # a pipe would be waited for, a device never ends
            raise UserError(f"{field}: {str(path)!r} is a pipe or a device: write its text to a file, and name that")
        raise UserError(f"{field}: there is no file {str(path)!r}")
    return [_no_archive(str(path), field)]


def _refuse(folder: str, field: str) -> list[str]:
    raise UserError(f"{field}: {folder!r} is a folder: name its files, e.g. {folder.rstrip('/') + '/**/*.txt'!r}")


def _no_archive(name: str, field: str) -> str:
    if is_archive(name):
        raise UserError(f"{field}: {name!r} is an archive of other files: unpack it, and name what it holds")
    return name
