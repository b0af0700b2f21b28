"""Whether the service can do its work."""

from datetime import datetime, timedelta

from service.storage import DatabaseError, Store
from vishwamai.contract.api import Health

STALE = timedelta(seconds=150)
"""The reconcile loop gives each job 60 s at most; one that is silent for much longer is stuck."""


def readiness(store: Store, last_pass: datetime, now: datetime) -> Health:
    """Asks the database, and judges by when the reconcile loop last got through all jobs."""
    checks = {"database": "ok", "reconcile": "ok"}
    try:
        store.jobs_by_state()
    except DatabaseError as error:
        checks["database"] = str(error)
    if now - last_pass > STALE:
        checks["reconcile"] = f"the loop last got through all jobs at {last_pass.isoformat()}"
    return Health(status="ok" if set(checks.values()) == {"ok"} else "unavailable", checks=checks)
