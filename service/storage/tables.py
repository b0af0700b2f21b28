"""The tables. One row of `jobs` owns everything else of that job; numbers and times of steps are kept narrow."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)


class UtcTime(TypeDecorator[datetime]):
    """A moment. SQLite keeps no zone, so every value is turned to UTC going in and marked as UTC coming out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turns a moment with an offset to UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no offset, so it names no moment")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Marks what the database kept as UTC."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
# SQLite numbers rows itself only where the key is exactly INTEGER.
RowId = BigInteger().with_variant(Integer(), "sqlite")


def _job_id(*, primary_key: bool = False) -> Column[str]:
    return Column("job_id", String(32), ForeignKey("jobs.id"), primary_key=primary_key, nullable=False)


jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),  # sorts by creation
    Column("name", String(200), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("accelerator", String(32), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("resolved", Text, nullable=False),
    Column("search", Text, nullable=False),  # lower-case words of name, notes, labels and tags
    Column("stop", String(8)),
    Column("stop_requested_at", UtcTime),
    Column("retried_at_attempt", Integer, nullable=False),
    Column("restore_step", BigInteger),
    Column("saves_asked", Integer, nullable=False, server_default="0"),
    Column("saves_answered", Integer, nullable=False, server_default="0"),
)

labels = Table(
    "job_labels",
    metadata,
    _job_id(primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
    Index(None, "key", "value"),
)

# Apart from `jobs`: it changes with every report, and SQLite writes a row anew as a whole.
progress = Table(
    "progress",
    metadata,
    _job_id(primary_key=True),
    Column("step", BigInteger, nullable=False),
    Column("phase", String(16)),
    Column("loss", Double),
    Column("eval_loss", Double),
    Column("learning_rate", Double),
    Column("tokens", BigInteger, nullable=False),
    Column("tokens_per_second", Double),
    Column("step_seconds", Double),
    Column("reported_at", UtcTime),
    Column("effective", JSON, nullable=False),
    Column("sample", Text),
    Column("notices", JSON(none_as_null=True)),
)

attempts = Table(
    "attempts",
    metadata,
    _job_id(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("first_step", BigInteger),
    Column("last_step", BigInteger),
    Column("resumed_from", BigInteger),
    Column("exit_codes", JSON, nullable=False),
    Column("reported_cause", String(32)),
    Column("reported_message", Text),
    Column("cause", String(32)),
    Column("message", Text),
    Column("goodput", JSON(none_as_null=True)),
)

# AUTOINCREMENT: an id is never given twice, which is what makes it good for resuming a stream.
events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    _job_id(),
    Column("time", UtcTime, nullable=False),
    Column("attempt", Integer),
    Column("kind", String(32), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Index(None, "job_id", "id"),
    sqlite_autoincrement=True,
)

# A value that was no number (NaN) is NULL.
steps = Table(
    "steps",
    metadata,
    _job_id(primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("time", UtcTime, nullable=False),
    Column("loss", Double),
    Column("grad_norm", Double),
    Column("learning_rate", Double),
    Column("tokens", BigInteger, nullable=False),
    Column("tokens_per_second", Double),
    Column("step_seconds", Double),
    Column("data_wait_seconds", Double),
    Column("parts", JSON(none_as_null=True)),
    sqlite_with_rowid=False,
)

evals = Table(
    "evals",
    metadata,
    _job_id(primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("time", UtcTime, nullable=False),
    Column("loss", Double),
    Column("perplexity", Double),
    Column("bits_per_byte", Double),
    Column("tokens", BigInteger, nullable=False),
    Column("seconds", Double),
    sqlite_with_rowid=False,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    _job_id(primary_key=True),
    Column("step", BigInteger, primary_key=True),
    Column("path", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("committed_at", UtcTime, nullable=False),
    Column("size_bytes", BigInteger),
    Column("seconds", Double),
)

# Lines first_id..last_id as zlib-compressed JSON; see logs.py.
log_chunks = Table(
    "log_chunks",
    metadata,
    _job_id(primary_key=True),
    Column("first_id", BigInteger, primary_key=True),
    Column("last_id", BigInteger, nullable=False),
    Column("raw_bytes", Integer, nullable=False),
    Column("stored_bytes", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

report_cursors = Table(
    "report_cursors",
    metadata,
    _job_id(primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("process", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("request_hash", String(64), nullable=False),
    _job_id(),
    Column("created_at", UtcTime, nullable=False),
)
