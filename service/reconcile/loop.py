"""The reconcile loop: load the live jobs, observe each one's attempt, decide, apply; then again, until cancelled.

Jobs are handled side by side and one's errors never stop the others: it is left alone for a while and tried again.
The database is written before anything is started and after anything has ended, so the service may die at any point.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import anyio
import structlog
from anyio.to_thread import run_sync as in_thread

from service.launchers.base import Launch as LaunchRequest
from service.launchers.base import Launcher, LaunchError
from service.operations.context import utc_now
from service.reconcile.actions import Action, BeginAttempt, EndAttempt, Launch, Move, Terminate
from service.reconcile.decide import decide, waiting_reasons
from service.records import JobRecord, Observation
from service.storage.errors import ForbiddenMove
from vishwamai.contract.reports import Report
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import Cause, JobState

log = structlog.get_logger()

AT_ONCE = 8
"""Jobs handled side by side."""
PATIENCE = 60.0
"""Seconds for one job's turn."""
LONGEST_SILENCE = timedelta(seconds=60)
"""Longest time a job whose turns fail is left alone."""


class Records(Protocol):
    """What the loop needs of storage. Blocking, idempotent calls."""

    def live_jobs(self) -> list[JobRecord]:
        """Jobs that are not in a terminal state."""

    def job(self, job_id: str) -> JobRecord | None:
        """The job as it is now."""

    def store_report(self, job_id: str, report: Report, now: datetime) -> object:
        """Stores a trainer's report unless it is stored already."""

    def begin_attempt(self, job_id: str, number: int, now: datetime) -> None:
        """Records that the attempt exists."""

    def end_attempt(
        self,
        job_id: str,
        number: int,
        *,
        ended_at: datetime,
        exit_codes: dict[int, int],
        cause: Cause,
        message: str,
        last_lines: tuple[str, ...],
    ) -> None:
        """Records how the attempt ended."""

    def move(
        self,
        job_id: str,
        state: JobState,
        code: str,
        reason: str,
        now: datetime,
        *,
        was: tuple[JobState, str] | None = None,
    ) -> None:
        """Records the job's state and the reason for it, unless state and code are not `was` any more."""


class Reconciler:
    """Runs the loop over one launcher. At most `max_running` jobs have processes at once; None sets no limit."""

    def __init__(
        self,
        store: Records,
        launcher: Launcher,
        *,
        token_for: Callable[[str], str],
        tick: float = 0.5,
        max_running: int | None = 1,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._token_for = token_for
        self._tick = tick
        self._max_running = max_running
        self._clock = clock
        self._failures: dict[str, tuple[int, datetime]] = {}
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.last_tick: datetime | None = None
        """When the loop last got through all jobs; readiness is judged by it."""

    async def run(self) -> None:
        """Reconciles until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            try:
                await self.pass_once()
            except Exception:
                log.exception("reconcile.pass_failed")
            with anyio.move_on_after(self._tick):
                await self._woken.wait()

    def wake(self) -> None:
        """Starts the next pass at once. May be called from the loop's own thread or any other."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def pass_once(self) -> None:
        """One turn for every live job. Raises only when the jobs cannot be loaded."""
        jobs = await in_thread(self._store.live_jobs)
        waiting = waiting_reasons(jobs, self._max_running)
        self._failures = {job.id: self._failures[job.id] for job in jobs if job.id in self._failures}
        limiter = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as group:
            for job in jobs:
                group.start_soon(self._turn, job, waiting.get(job.id), limiter)
        self.last_tick = self._clock()

    async def _turn(self, job: JobRecord, wait: str | None, limiter: anyio.CapacityLimiter) -> None:
        failures, not_before = self._failures.get(job.id, (0, None))
        if not_before is not None and self._clock() < not_before:
            return
        try:
            async with limiter:
                with anyio.fail_after(PATIENCE):
                    await self._reconcile(job, wait)
        except ForbiddenMove as error:
            log.info("reconcile.overtaken", job_id=job.id, by=str(error))
        except Exception:
            silence = min(LONGEST_SILENCE, timedelta(seconds=self._tick * 2**failures))
            self._failures[job.id] = (failures + 1, self._clock() + silence)
            log.exception("reconcile.job_failed", job_id=job.id, failures=failures + 1)
        else:
            self._failures.pop(job.id, None)

    async def _reconcile(self, job: JobRecord, wait: str | None) -> None:
        attempt = job.attempt
        seen = None
        if attempt is not None and attempt.ended_at is None:
            seen = await self._launcher.observe(job.id, attempt.number)
            if seen.phase == "exited":
                job = await self._hear_out(job, attempt.number)
        await self._apply_all(job, decide(job, seen, self._clock(), wait=wait))

    async def _hear_out(self, job: JobRecord, number: int) -> JobRecord:
        """The record with the trainer's last words: those that came just now, and those nobody was there to hear."""
        for report in await self._launcher.undelivered(job.id, number):
            await in_thread(self._store.store_report, job.id, report, self._clock())
        newest = await in_thread(self._store.job, job.id)
        return job if newest is None else newest

    async def _apply_all(self, job: JobRecord, actions: Iterable[Action]) -> None:
        for action in actions:
            await self._apply(job, action)
            if isinstance(action, Move):
                job = replace(job, state=action.state, code=action.code)

    async def _apply(self, job: JobRecord, action: Action) -> None:
        now = self._clock()
        match action:
            case BeginAttempt(number):
                await in_thread(self._store.begin_attempt, job.id, number, now)
            case Launch():
                await self._launch(job, action)
            case Terminate(number, kill):
                await self._launcher.terminate(job.id, number, kill=kill)
            case EndAttempt(number):
                facts = asdict(action)
                await in_thread(partial(self._store.end_attempt, job.id, facts.pop("number"), **facts))
                log.info("attempt.ended", job_id=job.id, attempt=number, cause=action.cause, message=action.message)
            case Move(state, code, reason):
                was = (job.state, job.code)
                await in_thread(partial(self._store.move, job.id, state, code, reason, now, was=was))
                log.info("job.moved", job_id=job.id, state=state, code=code, reason=reason)

    async def _launch(self, job: JobRecord, action: Launch) -> None:
        resolved = with_restore(job.resolved, action)
        request = LaunchRequest(job.id, action.number, resolved, await in_thread(self._token_for, job.id))
        try:
            await self._launcher.launch(request)
        except LaunchError as error:
            log.warning("attempt.refused", job_id=job.id, attempt=action.number, reason=str(error))
            await self._refused(job.id, action.number, str(error))

    async def _refused(self, job_id: str, number: int, why: str) -> None:
        """A launch that the place refuses is an attempt that ended without a process."""
        job = await in_thread(self._store.job, job_id)
        if job is None:
            return
        seen = Observation(job_id, number, "exited", message=why)
        await self._apply_all(job, decide(job, seen, self._clock()))


def with_restore(resolved: ResolvedJob, launch: Launch) -> ResolvedJob:
    """The job as this attempt gets it: its `checkpoint.restore` is where this attempt starts from."""
    checkpoint = resolved.effective.checkpoint.model_copy(update={"restore": launch.restore})
    effective = resolved.effective.model_copy(update={"checkpoint": checkpoint})
    return resolved.model_copy(update={"effective": effective})
