"""The engine and the schema: connecting so that a commit survives a crash, and bringing the tables up to date."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry

from service.storage.errors import Unstorable

MIGRATIONS = Path(__file__).with_name("migrations")
_BUSY_SECONDS = 30


class DatabaseError(Exception):
    """The database cannot be used; the message says why and what to do, `why` only why."""

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why


def connect(url: str) -> Engine:
    """The engine for `url`. Raises DatabaseError for an address that makes no sense or a missing driver."""
    try:
        # As many connections as FastAPI and anyio have threads, so that none waits for another.
        engine = create_engine(url, pool_size=10, max_overflow=30)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise DatabaseError(f"VISHWAMAI_DATABASE_URL cannot be used: {error}") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        same_file = _same_file(Path(engine.url.database or ""))
        event.listen(engine, "do_connect", same_file)  # or a new file would be made
        event.listen(engine, "checkout", same_file)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; on disk when the block ends without an error. Raises DatabaseError."""
    with _translated(engine), engine.connect().execution_options(begin="IMMEDIATE") as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads, and sees one state of the database throughout. Raises DatabaseError."""
    with _translated(engine), engine.begin() as connection:
        yield connection


def migrate(engine: Engine) -> None:
    """Brings the tables up to date; several processes may do so at once. Raises DatabaseError."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        newest = ScriptDirectory.from_config(config).get_current_head()
        raise DatabaseError(
            f"the database was written by another release (this one knows revisions up to {newest}): {error}"
        ) from error


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (OverflowError, UnicodeEncodeError, DataError) as error:
        raise Unstorable(f"a value cannot be stored: {getattr(error, 'orig', error)}") from error
    except (IntegrityError, NotSupportedError, ProgrammingError):  # our own mistakes
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        why = str(error.orig if isinstance(error, DBAPIError) else error)
        raise DatabaseError(f"the database {engine.url.render_as_string()} cannot be used: {why}", why) from error
    except StatementError as error:
        if isinstance(error.orig, OverflowError):
            raise Unstorable(f"a value cannot be stored: {error.orig}") from error
        raise


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver would begin transactions late, and only for some statements; _begin_sqlite does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _same_file(path: Path) -> Callable[..., None]:
    """Refuses to go on once the file was taken away: what is then committed to it would be lost without an error."""
    opened: list[int] = []

    def check(*_: Any) -> None:
        try:
            found = path.stat().st_ino
        except OSError:
            found = 0
        if found and not opened:
            opened.append(found)
        if opened and found != opened[0]:
            why = f"{path} was taken away while in use; put it back, or start the service anew"
            raise DatabaseError(why, why)

    return check


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: one that read first could not wait for it and would fail with "locked".
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
