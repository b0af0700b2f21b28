"""Records as the API shows them: pure functions of values."""

from collections.abc import Sequence
from typing import Any

from service.goodput import goodput, lost_of
from service.records import AttemptRecord, JobRecord, ProgressRecord
from service.restarts import restarts_left
from vishwamai.contract.api import Attempt, Checkpoint, Condition, Job, JobEvent, JobSummary, Progress
from vishwamai.contract.states import JobState


def job_summary(record: JobRecord, progress: ProgressRecord) -> JobSummary:
    """A job in a list."""
    return JobSummary(**_summary(record, progress))


def job(
    record: JobRecord,
    progress: ProgressRecord,
    *,
    launcher: str,
    output: str,
    history: Sequence[JobEvent],
    checkpoints: Sequence[Checkpoint],
) -> Job:
    """One job, whole; `history` holds its events of kind "state"."""
    return Job(
        **_summary(record, progress),
        launcher=launcher,
        output=output,
        resolved=record.resolved,
        decisions=record.resolved.decisions,
        warnings=[*record.resolved.warnings, *progress.notices.values()],
        attempts=attempts(record),
        conditions=[condition(event) for event in history],
        restarts_left=restarts_left(record),
        last_checkpoint=checkpoints[0] if checkpoints else None,
        effective=progress.effective,
        goodput=goodput(record),
        sample=progress.sample,
    )


def attempts(record: JobRecord) -> list[Attempt]:
    """The job's lives, oldest first."""
    return [attempt(one, lost_of(record, one)) for one in record.attempts]


def attempt(record: AttemptRecord, lost_steps: int | None) -> Attempt:
    """One life of the job's processes; until reconcile has judged its end, the trainer's own word for it stands."""
    return Attempt(
        number=record.number,
        started_at=record.started_at,
        ended_at=record.ended_at,
        first_step=record.first_step,
        last_step=record.last_step,
        resumed_from=record.resumed_from,
        lost_steps=lost_steps,
        exit_codes={str(process): code for process, code in sorted(record.exit_codes.items())},
        cause=record.cause or record.reported_cause,
        message=record.message or record.reported_message,
    )


def condition(event: JobEvent) -> Condition:
    """One entry of the job's history."""
    return Condition(
        state=JobState(event.data["state"]), code=event.data["code"], reason=event.message, since=event.time
    )


def progress_view(record: JobRecord, progress: ProgressRecord) -> Progress:
    """How far the run has come and, while it runs, when it will be done."""
    max_steps = record.resolved.effective.training.max_steps
    left = max(0, max_steps - progress.step)
    eta = left * progress.step_seconds if record.state is JobState.RUNNING and progress.step_seconds else None
    return Progress(
        step=progress.step,
        max_steps=max_steps,
        fraction=1.0 if record.state is JobState.SUCCEEDED else min(1.0, progress.step / max_steps),
        phase=progress.phase,
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        learning_rate=progress.learning_rate,
        tokens=progress.tokens,
        tokens_per_second=progress.tokens_per_second,
        eta_seconds=eta,
        reported_at=progress.reported_at,
    )


def _summary(record: JobRecord, progress: ProgressRecord) -> dict[str, Any]:
    run = record.resolved.effective.run
    return {
        "id": record.id,
        "name": record.name,
        "state": record.state,
        "code": record.code,
        "reason": record.reason,
        "accelerator": record.resolved.hardware.accelerator,
        "labels": run.labels,
        "tags": run.tags,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
        "ended_at": record.ended_at,
        "progress": progress_view(record, progress),
    }
