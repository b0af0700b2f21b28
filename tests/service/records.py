"""Records and reports as values, for tests of storage."""

from datetime import UTC, datetime, timedelta
from typing import Any

from service.records import JobRecord
from service.storage import Store
from tests.service.plane import CONFIG
from vishwamai.contract.load import check_config
from vishwamai.contract.reports import Report
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import SiteDefaults
from vishwamai.contract.states import JobState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RESOLVED = resolve(check_config(CONFIG), SiteDefaults(platform="cpu"))
LATER = NOW + timedelta(minutes=5)


def queued(job_id: str = "j1") -> JobRecord:
    return JobRecord(
        id=job_id,
        name=job_id,
        state=JobState.QUEUED,
        code="submitted",
        reason="Accepted.",
        created_at=NOW,
        updated_at=NOW,
        resolved=RESOLVED,
    )


def running(store: Store, job_id: str = "j1") -> None:
    """Stores a job whose first attempt is starting."""
    store.create(queued(job_id))
    store.begin_attempt(job_id, 1, NOW)
    store.move(job_id, JobState.STARTING, "launching", "Attempt 1 is being started.", NOW)


def report(*events: dict[str, Any], **fields: Any) -> Report:
    values = {"attempt": 1, "seq": 1, "sent_at": NOW, "events": list(events)} | fields
    return Report.model_validate(values)
