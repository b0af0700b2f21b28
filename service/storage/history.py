"""A job's events and checkpoints, as the API shows them."""

from collections.abc import Collection

from sqlalchemy import Connection, select

from service.storage.tables import checkpoints, events
from vishwamai.contract.api import Checkpoint, JobEvent


def read_events(
    connection: Connection, job_id: str, *, after: int, limit: int, kinds: Collection[str]
) -> list[JobEvent]:
    """What happened after the event `after`, oldest first; only some kinds where `kinds` names any."""
    query = select(events).where(events.c.job_id == job_id, events.c.id > after).order_by(events.c.id).limit(limit)
    if kinds:
        query = query.where(events.c.kind.in_(list(kinds)))
    return [JobEvent.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def read_checkpoints(connection: Connection, job_id: str) -> list[Checkpoint]:
    """Committed checkpoints that are still there, newest first."""
    query = select(checkpoints).where(checkpoints.c.job_id == job_id).order_by(checkpoints.c.step.desc())
    return [Checkpoint.model_validate(dict(row)) for row in connection.execute(query).mappings()]
