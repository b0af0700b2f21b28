"""Check what no other tool checks: nothing ties the files to one machine or registry, and the locks are fresh."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# What each lock file locks: extras and dependency groups of pyproject.toml.
LOCKED = {
    "bootstrap.txt": ["bootstrap"],
    "service.txt": ["", "service"],
    "trainer.txt": ["", "trainer"],
    "dev.txt": ["", "service", "trainer", "plan", "dev"],
}
# These would make a laptop download gigabytes it cannot use.
ACCELERATOR_WHEELS = re.compile(r"nvidia-|libtpu|jax-cuda|triton")
# The TPU compiler runs on a CPU, and tests of the plan compile with it (docs/decisions/0008-libtpu-for-the-plan.md).
ALLOWED_WHEELS = {"dev.txt": {"libtpu"}}

# Registries are the reader's own choice (pip's configuration), and so is the place of the checkout.
REGISTRY_HOST = re.compile(
    r"\b(pypi\.org|pythonhosted\.org|registry\.npmjs\.org|registry\.yarnpkg\.com|proxy\.golang\.org)\b"
)
INDEX_OPTION = re.compile(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", re.MULTILINE)
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(root|work|home|Users)/\w")


def committed_files(root: Path) -> Iterator[Path]:
    """Yield the files git holds, and the new ones it would."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in sorted(filter(None, names.split("\0"))):
        if (root / name).is_file():
            yield root / name


def ties_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and fault of everything that ties a text to one machine or registry."""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := REGISTRY_HOST.search(line):
            yield number, f"names the registry host {found[0]}"
        if found := MACHINE_PATH.search(line):
            yield number, f"names a path of one machine, {found[0]}..."


def ties(root: Path) -> Iterator[str]:
    """Yield a line for every tie in a committed text file."""
    for path in committed_files(root):
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, fault in ties_in(data.decode(errors="replace")):
            yield f"{path.relative_to(root)}:{number}: {fault}"


def lock_faults(name: str, lock: str, wanted: list[str]) -> Iterator[str]:
    """Yield what is wrong with a lock file, given the requirements it has to satisfy."""
    if INDEX_OPTION.search(lock):
        yield f"requirements/{name}: names a package index"
    blocks = [block for block in re.split(r"\n(?=\S)", lock.strip()) if block[0] not in "-#"]
    pinned: dict[str, list[Requirement]] = {}
    for block in blocks:
        pin = Requirement(block.split(" \\\n")[0])
        pinned.setdefault(canonicalize_name(pin.name), []).append(pin)
        if "--hash=" not in block:
            yield f"requirements/{name}: {pin.name} has no hash"
        if ACCELERATOR_WHEELS.match(pin.name) and pin.name not in ALLOWED_WHEELS.get(name, ()):
            yield f"requirements/{name}: {pin.name} is for accelerators"
    for requirement in map(Requirement, wanted):
        versions = [
            each.version for pin in pinned.get(canonicalize_name(requirement.name), []) for each in pin.specifier
        ]
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            has = f"has {', '.join(versions)}" if versions else "lacks it"
            yield f"requirements/{name}: pyproject.toml wants {requirement}, the lock {has}; run `make lock`"


def stale_locks(root: Path) -> Iterator[str]:
    """Yield a line for every way in which the lock files do not answer pyproject.toml."""
    pyproject = tomllib.loads((root / "pyproject.toml").read_text())
    project = pyproject["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"], **pyproject["dependency-groups"]}
    for name, parts in LOCKED.items():
        wanted = [requirement for part in parts for requirement in groups[part]]
        yield from lock_faults(name, (root / "requirements" / name).read_text(), wanted)


def main() -> int:
    """Print every fault; the exit code tells whether there was one."""
    faults = [*ties(ROOT), *stale_locks(ROOT)]
    print("\n".join(faults) or "Nothing names a registry or a machine; the locks answer pyproject.toml.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
