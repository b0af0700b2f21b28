"""Looking at jobs and steering them."""

from dataclasses import replace

from service.operations import views
from service.operations.context import Context
from service.records import JobRecord, ProgressRecord
from service.storage import JobFilter, UnknownJob
from vishwamai.contract.api import AttemptList, CheckpointList, EventList, Job, JobList


class UnknownCheckpoint(ValueError):
    """The step has no committed checkpoint that is still there."""

    def __init__(self, step: int, steps: list[int], *, field: str = "from_step") -> None:
        """`field` is where the request named the step."""
        self.step = step
        self.field = field
        known = f"there are those of steps {', '.join(map(str, steps))}" if steps else "there is none yet"
        super().__init__(f"no committed checkpoint of step {step}: {known}")


def record(context: Context, job_id: str) -> JobRecord:
    """The job's record. Raises UnknownJob."""
    found = context.store.job(job_id)
    if found is None:
        raise UnknownJob(job_id)
    return found


def get(context: Context, job_id: str) -> Job:
    """One job, whole. Raises UnknownJob."""
    found = record(context, job_id)
    return views.job(
        found,
        context.store.progress([job_id]).get(job_id, ProgressRecord()),
        launcher=context.launcher.name,
        output=context.launcher.output(job_id),
        history=context.store.events(job_id, kinds={"state"}, limit=10_000),
        checkpoints=context.store.checkpoints(job_id),
    )


def find(context: Context, wanted: JobFilter, *, limit: int, cursor: str | None) -> JobList:
    """A page of jobs, newest first; a job that is submitted meanwhile disturbs no later page."""
    found = context.store.find(replace(wanted, before_id=cursor), limit + 1)
    page = found[:limit]
    progress = context.store.progress([one.id for one in page])
    return JobList(
        jobs=[views.job_summary(one, progress.get(one.id, ProgressRecord())) for one in page],
        next_cursor=page[-1].id if len(found) > limit else None,
    )


def cancel(context: Context, job_id: str, *, save: bool) -> Job:
    """Asks for the job's end. save=False hastens one already asked for. Raises UnknownJob, ForbiddenMove."""
    context.store.request_stop(job_id, "save" if save else "now", context.clock())
    context.wake()
    return get(context, job_id)


def save(context: Context, job_id: str) -> Job:
    """Asks for a checkpoint, now. Raises UnknownJob, ForbiddenMove."""
    context.store.request_save(job_id, context.clock())
    return get(context, job_id)


def retry(context: Context, job_id: str, from_step: int | None) -> Job:
    """Queues an ended job again. Raises UnknownJob, ForbiddenMove, UnknownCheckpoint."""
    record(context, job_id)
    steps = [checkpoint.step for checkpoint in context.store.checkpoints(job_id)]
    if from_step is not None and from_step not in steps:
        raise UnknownCheckpoint(from_step, steps)
    context.store.retry(job_id, from_step, context.clock())
    context.wake()
    return get(context, job_id)


def events(context: Context, job_id: str, *, after: int, limit: int) -> EventList:
    """What happened after the event `after`. Raises UnknownJob."""
    record(context, job_id)
    found = context.store.events(job_id, after=after, limit=limit)
    return EventList(events=found, last_id=found[-1].id if found else after)


def attempts(context: Context, job_id: str) -> AttemptList:
    """All attempts, oldest first. Raises UnknownJob."""
    return AttemptList(attempts=views.attempts(record(context, job_id)))


def checkpoints(context: Context, job_id: str) -> CheckpointList:
    """Committed checkpoints that are still there, newest first. Raises UnknownJob."""
    record(context, job_id)
    return CheckpointList(checkpoints=context.store.checkpoints(job_id))
