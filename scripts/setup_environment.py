"""Make .venv hold exactly what the lock files say; do nothing when it already does.

Runs on a bare Python, so it uses the standard library alone. The stamp inside .venv is removed before
anything changes and written last: an environment without one was interrupted, and is made anew.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "vishwamai-setup"
BOOTSTRAP = ROOT / "requirements" / "bootstrap.txt"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"
INPUTS = (BOOTSTRAP, REQUIREMENTS, ROOT / "pyproject.toml", Path(__file__).resolve())

# uv does not read pip's configuration; these are the settings that decide where packages come from.
UV_NAME_OF_PIP_SETTING = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def inputs() -> str:
    """Return a fingerprint of everything that decides what .venv contains."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in INPUTS)).hexdigest()


def home() -> str | None:
    """Return what .venv is tied to, its folder and its interpreter, or None where it does not work.

    Its scripts name the folder, so a moved environment is as good as none; so is one whose
    interpreter was removed or replaced by another version.
    """
    code = "import sys, pip; print(sys.prefix, *sys.version_info[:3])"
    try:
        answer = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() if answer.stdout.startswith(f"{VENV} ") else None


def stamp() -> list[str]:
    """Return what the last complete set-up wrote: home and inputs."""
    return STAMP.read_text().splitlines() if STAMP.is_file() else []


def uv_environment() -> dict[str, str]:
    """Return the environment in which uv asks the same registry as pip is configured to ask."""
    environment = dict(os.environ)
    listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    # What pip's environment variables say comes last, because it counts most.
    for line in sorted(listing.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        # global.index-url='...', install.cert='...' or :env:.find-links='...'
        name, _, value = line.partition("=")
        variable = UV_NAME_OF_PIP_SETTING.get(name.rpartition(".")[2])
        if variable is None or variable in os.environ:
            continue
        values = value.strip("'\"").replace("\\n", " ").split()
        if variable == "UV_FIND_LINKS":  # pip passes over a missing folder, uv stops at it
            values = [each for each in values if "://" in each or Path(each).is_dir()]
        separator = "," if variable == "UV_FIND_LINKS" else " "
        if values:
            environment[variable] = separator.join(values)
    return environment


def uv(*arguments: str | Path) -> None:
    """Run the environment's own uv on the environment."""
    environment = uv_environment() | {"VIRTUAL_ENV": str(VENV)}
    subprocess.run([VENV / "bin" / "uv", *arguments], cwd=ROOT, env=environment, check=True)


def make_anew() -> None:
    """Replace .venv by an empty environment on the interpreter that runs this script."""
    print(f"Making .venv with Python {sys.version.split()[0]}", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)


def install() -> None:
    """Install the locked packages and the project itself (editable) into .venv."""
    print("Installing the locked packages", flush=True)
    options = ["--quiet", "--require-hashes", "--only-binary", ":all:", "--requirement", str(BOOTSTRAP)]
    subprocess.run([PYTHON, "-m", "pip", "install", *options], check=True)
    # Both files: sync removes whatever neither names.
    uv("pip", "sync", "--quiet", "--require-hashes", REQUIREMENTS, BOOTSTRAP)
    # Without build isolation the build backend, too, is the locked one.
    uv("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let only one set-up of this checkout run at a time, however many makes there are."""
    folder = ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    with (folder / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Set .venv up; ``--current`` only tells through the exit code whether it is."""
    if stamp() == [home(), inputs()]:
        return 0
    if "--current" in sys.argv:
        return 1
    with one_at_a_time():
        if stamp() == [home(), inputs()]:  # another make was faster
            return 0
        reusable = stamp()[:1] == [home()]
        STAMP.unlink(missing_ok=True)
        try:
            if not reusable:
                make_anew()
            install()
        except subprocess.CalledProcessError as error:
            print(f"Set-up stopped: {error.cmd[0]} ended with exit code {error.returncode}; its message is above.")
            print("The next make starts the set-up again.")
            return 1
        STAMP.write_text(f"{home()}\n{inputs()}\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Set-up interrupted; the next make starts it again.")
