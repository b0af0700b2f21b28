"""From the bytes of a config to a queued job."""

import json
import secrets
from datetime import datetime
from hashlib import sha256
from typing import Any

from service.operations.context import Context
from service.operations.teachers import DIGITS, absent_teacher, known_teachers
from service.records import JobRecord
from vishwamai.contract.load import check_config, parse_json
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults
from vishwamai.contract.states import JobState

SITE: dict[str, SiteDefaults] = {
    "local": SiteDefaults(platform="cpu"),
    "kubernetes": SiteDefaults(platform="tpu"),
}
"""What each launcher adds to a config."""


class BlockedLaunch(Exception):
    """The config is valid, yet no trainer of this release can run it; `notices` say why."""

    def __init__(self, notices: list[Notice]) -> None:
        self.notices = notices
        super().__init__("; ".join(notice.message for notice in notices))


def validate(context: Context, body: bytes) -> ResolvedJob:
    """What this config would run as. Raises InvalidConfig with every reason at once."""
    return resolved_on(context, parse_json(body), context.launcher.name)


def submit(context: Context, body: bytes, key: str | None) -> tuple[str, bool]:
    """Stores a queued job on disk; answers its id, and True when this idempotency key had made it before.

    Raises InvalidConfig, BlockedLaunch, and KeyReused when the key belongs to another config.
    """
    document = parse_json(body)
    resolved = resolved_on(context, document, context.launcher.name)
    if resolved.blockers:
        raise BlockedLaunch(resolved.blockers)
    now = context.clock()
    made = job_id(now)
    record = JobRecord(
        id=made,
        name=resolved.effective.run.name or made,
        state=JobState.QUEUED,
        code="submitted",
        reason="Accepted; waiting to be started.",
        created_at=now,
        updated_at=now,
        resolved=resolved,
    )
    stored = context.store.create(record, key=key, request_hash=document_hash(document))
    context.wake()
    return stored, stored != made


def resolved_on(context: Context, document: Any, launcher: str) -> ResolvedJob:
    """The job that a config becomes where this launcher runs it. Raises InvalidConfig."""
    config, site = check_config(document), SITE[launcher]
    name = None if config.distillation is None else config.distillation.teacher_model
    resolved = resolve(config, site.model_copy(update={"teachers": known_teachers(context, name)}))
    absent = absent_teacher(context, name, resolved) if launcher == "local" else []
    return resolved.model_copy(update={"warnings": absent + resolved.warnings})


def job_id(now: datetime) -> str:
    """A new id: 18 characters fit for a DNS label, sorting by time; "j", nine for milliseconds, eight at random."""
    milliseconds = int(now.timestamp() * 1000)
    time = "".join(DIGITS[milliseconds >> shift & 31] for shift in range(40, -1, -5))
    return "j" + time + "".join(secrets.choice(DIGITS) for _ in range(8))


def document_hash(document: Any) -> str:
    """The same for documents that mean the same, however they are spaced or ordered."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()
