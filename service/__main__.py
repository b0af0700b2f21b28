"""`python -m service [serve | migrate | token NAME]`: the control plane, set up by its environment (settings.py).

Exit codes: 0 ended on request, 1 could not start (one line on stderr says why), 2 wrong command line.
"""

import argparse
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog
import uvicorn

from service.access import Credentials, DamagedSecret, People
from service.access.people import Role, new_token
from service.app import SECRET_FILE, create_app
from service.logs import configure_logging
from service.settings import Settings, SettingsError
from service.setup_files import cluster_of
from service.storage import DatabaseError, Store

log = structlog.get_logger()
GRACE_SECONDS = 10
"""For answers under way when the service is told to end."""


class CannotStart(Exception):
    """Why, in one line."""


class _Server(uvicorn.Server):
    """Ends streams and long polls as soon as it is told to end; uvicorn alone would wait for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        if (context := getattr(getattr(app, "state", None), "context", None)) is not None:
            context.changes.close()
        super().handle_exit(sig, frame)


def main() -> int:
    """Runs the command line; answers the exit code."""
    parser = argparse.ArgumentParser(prog="python -m service", description="The VishwamAI control plane.")
    parser.add_argument("command", nargs="?", choices=("serve", "migrate", "token"), default="serve")
    parser.add_argument("name", nargs="?", help="token: for whom")
    parser.add_argument("--read-only", action="store_true", help="token: may look, and not change anything")
    given = parser.parse_args()
    command = given.command
    if (command == "token") is not bool(given.name):
        parser.error("a name belongs to 'token', and 'token' needs one: python -m service token NAME")
    if command == "token":
        return _make_token(given.name, "read" if given.read_only else "write")
    try:
        settings = Settings.read(os.environ)
        if settings.tokens_file:
            People.read(settings.tokens_file)
        cluster_of(settings)
        with data_dir(settings.data_dir):
            _warn_of_strays(settings)
            Store.open(settings.database).close()
            Credentials.load(settings.data_dir / SECRET_FILE)
            if command == "serve":
                _serve(settings)
    except (CannotStart, SettingsError, DatabaseError, DamagedSecret) as error:
        print(f"vishwamai service: {error}", file=sys.stderr)
        return 1
    return 0


def _make_token(name: str, role: Role) -> int:
    token, line = new_token(name, role)
    print(token)
    print(f"Give this token to {name}; it is not kept. Add below 'tokens:' in VISHWAMAI_TOKENS_FILE:", file=sys.stderr)
    print(line, file=sys.stderr)
    return 0


def _warn_of_strays(settings: Settings) -> None:
    """A database that was lost is made anew without a word, but not where there are jobs that it should know."""
    strays = [path.name for path in (settings.data_dir / "jobs").glob("j*")]
    if strays and not settings.database_url and not settings.database_file.exists():
        names = f"{strays[0]!r}" + (f" and {len(strays) - 1} more" if len(strays) > 1 else "")
        print(
            f"vishwamai service: {settings.database_file} is missing, yet there are folders of jobs ({names}). "
            "Starting with an empty database, which knows none of them; to get them back, put the file back.",
            file=sys.stderr,
        )


def _serve(settings: Settings) -> None:
    listener = _listen(settings)
    settings = settings.with_port(listener.getsockname()[1])
    configure_logging(sys.stderr)
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    log.info("service.listening", url=settings.base_url, data_dir=str(settings.data_dir.absolute()))
    server = _Server(config)
    # uvicorn raises the signal again when it is done; that it ended as asked is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listener])
    if not server.started:
        raise CannotStart("the service could not start; its log says why")


def _listen(settings: Settings) -> socket.socket:
    """The listening socket, so that a taken port is known before anything else begins."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}. "
            "Set VISHWAMAI_PORT to another port (0 takes any free one), or end the program that has it."
        ) from error
    return listener


@contextmanager
def data_dir(folder: Path) -> Iterator[None]:
    """The data folder, made if need be, and held by a lock: two services would fight over it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "service.lock").open("a+")
    except OSError as error:
        raise CannotStart(
            f"VISHWAMAI_DATA_DIR={str(folder)!r} cannot be written: {error.strerror}. Name a folder that can."
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise CannotStart(
                f"another service (process {file.read().strip() or 'unknown'}) uses {str(folder)!r}. "
                "End it first, or set VISHWAMAI_DATA_DIR to another folder."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


if __name__ == "__main__":
    sys.exit(main())
