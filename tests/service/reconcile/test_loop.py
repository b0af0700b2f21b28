"""The loop over the real store and real processes; the trainer is a script that does as it is told."""

import json
import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from service.launchers.base import LaunchError
from service.operations.context import utc_now
from service.reconcile.loop import Reconciler
from service.records import JobRecord
from service.storage import Store
from tests.service.launchers.place import PATIENCE, end_all, is_gone, launcher_at, trainer_pid, until
from tests.service.reconcile.world import START, job
from vishwamai.contract.reports import Report
from vishwamai.contract.resolved import ResolvedJob
from vishwamai.contract.states import Cause, JobState

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


class Service:
    """What survives a kill of the service (data folder, clock) and what does not (the reconciler)."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.store = Store.open(f"sqlite:///{data_dir / 'service.sqlite3'}")
        self.ahead = timedelta()
        self.restart()

    def restart(self, **options) -> Reconciler:
        """A new reconciler and launcher, as after a kill."""
        self.launcher = launcher_at(self.data_dir)
        self.loop = Reconciler(self.store, self.launcher, token_for="token-of-{}".format, clock=self.clock, **options)
        return self.loop

    def clock(self):
        return utc_now() + self.ahead

    def submit(self, job_id: str = "job-1", *, script: dict | None = None, **fields) -> Path:
        self.store.create(job(id=job_id, **fields))
        folder = self.data_dir / "jobs" / job_id
        folder.mkdir(parents=True)
        (folder / "script.json").write_text(json.dumps(script or {}))
        return folder

    def job(self, job_id: str = "job-1") -> JobRecord:
        record = self.store.job(job_id)
        assert record is not None
        return record

    async def until(self, state: JobState, job_id: str = "job-1", step: timedelta = timedelta(seconds=61)) -> JobRecord:
        """Passes of the loop until the job is there; each moves the clock by a step, past any back-off."""
        deadline = time.monotonic() + PATIENCE
        while self.job(job_id).state != state:
            assert time.monotonic() < deadline, f"still {self.job(job_id)}"
            await self.loop.pass_once()
            self.ahead += step
            await anyio.sleep(0.01)
        return self.job(job_id)


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path)
    yield service
    service.store.close()
    end_all(tmp_path)


async def test_a_job_runs_to_its_end(service):
    folder = service.submit()
    await service.loop.pass_once()
    assert service.job().code == "launching"
    await service.loop.pass_once()
    assert service.job().code == "started"
    trainer_pid(service.data_dir)
    (folder / "finish").touch()
    record = await service.until(JobState.SUCCEEDED)
    [attempt] = record.attempts
    assert (attempt.cause, attempt.exit_codes) == (Cause.COMPLETED, {0: 0})
    assert (folder / "reports.token").read_text() == "token-of-job-1"


async def test_killed_between_accepting_and_starting(service, monkeypatch):
    folder = service.submit()

    async def killed(launch):
        raise RuntimeError("the service is killed here")

    monkeypatch.setattr(service.launcher, "launch", killed)
    await service.loop.pass_once()
    assert len(service.job().attempts) == 1
    assert not (folder / "starts").exists()
    service.restart()
    (folder / "finish").touch()
    record = await service.until(JobState.SUCCEEDED)
    assert len(record.attempts) == 1
    assert len((folder / "starts").read_text().splitlines()) == 1


async def test_killed_between_recording_the_attempt_and_the_move(service):
    folder = service.submit()
    service.store.begin_attempt("job-1", 1, START)
    (folder / "finish").touch()
    record = await service.until(JobState.SUCCEEDED)
    assert len(record.attempts) == 1


async def test_killed_after_starting_before_seeing_it(service):
    folder = service.submit()
    await service.loop.pass_once()
    service.restart()
    await service.loop.pass_once()
    pid = trainer_pid(service.data_dir)
    (folder / "finish").touch()
    await service.until(JobState.SUCCEEDED)
    assert (folder / "starts").read_text() == f"1 {pid}\n"


async def test_the_trainer_ends_while_the_service_is_down(service):
    folder = service.submit()
    await service.loop.pass_once()
    pid = trainer_pid(service.data_dir)
    (folder / "finish").touch()
    until(lambda: is_gone(pid))
    service.restart()
    record = await service.until(JobState.SUCCEEDED)
    assert len(record.attempts) == 1


async def test_what_a_trainer_could_not_tell_a_service_that_was_down_is_heard(service):
    folder = service.submit()
    await service.loop.pass_once()
    trainer_pid(service.data_dir)
    now = service.clock()
    step = {"kind": "step", "time": now, "step": 7, "loss": 2.5, "learning_rate": 0.1, "grad_norm": 1.0}
    step |= {"tokens": 700, "tokens_per_second": 10.0, "step_seconds": 1.0}
    saved = {"kind": "checkpoint", "time": now, "action": "committed", "step": 7, "path": "checkpoints/7"}
    finished = {"kind": "finished", "time": now, "cause": "completed", "step": 7, "message": "Trained to step 7."}
    (folder / "reports").mkdir()
    for seq, events in enumerate([[step, saved], [finished]], 1):
        report = Report.model_validate({"attempt": 1, "seq": seq, "sent_at": now, "events": events})
        (folder / "reports" / f"attempt-000001-{seq:010}.json").write_text(report.model_dump_json())
    (folder / "reports" / "attempt-000001-0000000003.json").write_text("{half a rep")
    (folder / "finish").touch()
    record = await service.until(JobState.SUCCEEDED)
    assert record.reason == "Trained to step 7."
    assert record.attempts[0].last_step == 7
    assert [c.step for c in service.store.checkpoints("job-1")] == [7]


async def test_a_killed_trainer_starts_again(service):
    folder = service.submit()
    await service.loop.pass_once()
    os.kill(trainer_pid(service.data_dir), signal.SIGKILL)
    until(lambda: (folder / "attempts" / "1" / "exit.json").exists())
    await service.loop.pass_once()
    record = service.job()
    assert (record.state, record.code) == (JobState.RESTARTING, Cause.HOST_ERROR)
    assert "SIGKILL" in record.reason
    assert "in 1 s" in record.reason
    service.ahead -= timedelta(seconds=30)  # too soon
    await service.loop.pass_once()
    assert len(service.job().attempts) == 1
    service.ahead += timedelta(seconds=31)
    await service.loop.pass_once()
    assert len(service.job().attempts) == 2
    (folder / "finish").touch()
    record = await service.until(JobState.SUCCEEDED)
    assert [attempt.cause for attempt in record.attempts] == [Cause.HOST_ERROR, Cause.COMPLETED]


async def test_supervisor_and_trainer_killed_together(service):
    folder = service.submit()
    await service.loop.pass_once()
    pid = trainer_pid(service.data_dir)
    supervisor = json.loads((folder / "attempts" / "1" / "process.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: is_gone(pid) and is_gone(supervisor))
    (folder / "finish").touch()
    record = await service.until(JobState.SUCCEEDED)
    assert [(a.cause, a.exit_codes) for a in record.attempts] == [(Cause.HOST_ERROR, {}), (Cause.COMPLETED, {0: 0})]


async def test_a_preempted_trainer_starts_again_at_once(service):
    folder = service.submit()
    await service.loop.pass_once()
    os.kill(trainer_pid(service.data_dir), signal.SIGTERM)
    until(lambda: (folder / "attempts" / "1" / "exit.json").exists())
    await service.loop.pass_once()
    await service.loop.pass_once()
    assert [a.cause for a in service.job().attempts] == [Cause.PREEMPTED, None]
    (folder / "finish").touch()
    await service.until(JobState.SUCCEEDED)


async def test_cancelling_asks_and_then_kills(service):
    folder = service.submit(script={"deaf": True})
    await service.loop.pass_once()
    pid = trainer_pid(service.data_dir)
    service.store.request_stop("job-1", "save", service.clock())
    record = await service.until(JobState.CANCELLED, step=timedelta(seconds=11))
    assert is_gone(pid)
    assert (folder / "attempts" / "1" / "asked_to_end").exists()
    assert record.attempts[0].exit_codes == {0: -9}
    assert record.attempts[0].cause == Cause.CANCELLED


async def test_a_users_mistake_is_not_tried_again(service):
    service.submit(script={"print": "data.train: no file matches x.txt", "exit": 2})
    record = await service.until(JobState.FAILED)
    assert record.code == Cause.USER_ERROR
    assert "no file matches" in record.reason
    assert len(record.attempts) == 1


async def test_a_place_that_refuses_uses_up_the_restarts(service, monkeypatch):
    service.submit(max_restarts=2)

    async def refuse(launch):
        raise LaunchError("The disk is full.")

    monkeypatch.setattr(service.launcher, "launch", refuse)
    record = await service.until(JobState.FAILED)
    assert len(record.attempts) == 3
    assert record.reason.startswith("The disk is full.")


async def test_a_retrys_checkpoint_reaches_the_trainer(service):
    folder = service.submit(script={"exit": 71})
    await service.until(JobState.FAILED)
    service.store.retry("job-1", 40, service.clock())
    (folder / "script.json").write_text("{}")
    (folder / "finish").touch()
    await service.until(JobState.SUCCEEDED)
    restores = []
    for number in (1, 2):
        resolved = (folder / "attempts" / str(number) / "resolved.json").read_text()
        restores.append(ResolvedJob.model_validate_json(resolved).effective.checkpoint.restore)
    assert restores == ["newest", 40]


async def test_one_machine_runs_as_many_jobs_as_it_may(service):
    service.restart(max_running=2)
    folders = [service.submit(f"job-{n}", created_at=START + timedelta(seconds=n)) for n in range(3)]
    await service.loop.pass_once()
    assert [service.job(f"job-{n}").code for n in range(3)] == ["launching", "launching", "waiting"]
    assert "free slot" in service.job("job-2").reason
    trainer_pid(service.data_dir, job_id="job-0")
    for folder in folders[:1]:
        (folder / "finish").touch()
    await service.until(JobState.SUCCEEDED, "job-0")
    await service.loop.pass_once()
    assert service.job("job-2").state == JobState.STARTING


async def test_one_jobs_errors_stop_nobody_else_and_are_tried_again_later(service, monkeypatch):
    service.restart(max_running=None)
    for name in ("bad", "good"):
        (service.submit(name) / "finish").touch()
    healthy, asked = service.launcher.observe, []

    async def observe(job_id, attempt):
        asked.append(job_id)
        if job_id == "bad":
            raise OSError("cannot look")
        return await healthy(job_id, attempt)

    monkeypatch.setattr(service.launcher, "observe", observe)
    await service.until(JobState.SUCCEEDED, "good")
    asked.clear()
    service.ahead += timedelta(seconds=61)
    await service.loop.pass_once()
    await service.loop.pass_once()
    assert asked == ["bad"]  # once: the second pass came too soon
    monkeypatch.undo()
    await service.until(JobState.SUCCEEDED, "bad")


async def test_running_wakes_at_once_and_outlives_a_failing_database(service, monkeypatch):
    loop = service.restart(tick=3600)
    failed = anyio.Event()

    def fail():
        anyio.from_thread.run_sync(failed.set)
        raise OSError("the database is away")

    healthy = service.store.live_jobs
    monkeypatch.setattr(service.store, "live_jobs", fail)
    async with anyio.create_task_group() as group:
        group.start_soon(loop.run)
        await failed.wait()
        assert loop.last_tick is None
        monkeypatch.setattr(service.store, "live_jobs", healthy)
        service.submit(script={"exit": 2})
        with anyio.fail_after(PATIENCE):
            while service.job().state != JobState.FAILED:
                await anyio.to_thread.run_sync(loop.wake)
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert loop.last_tick is not None


async def test_a_user_may_be_quicker_than_the_loop(service, monkeypatch):
    folder = service.submit()
    stale = service.store.live_jobs()
    service.store.request_stop("job-1", "save", START)
    assert service.job().state == JobState.CANCELLED
    monkeypatch.setattr(service.store, "live_jobs", lambda: stale)
    await service.loop.pass_once()
    record = service.job()
    assert (record.state, record.attempts) == (JobState.CANCELLED, ())
    assert not (folder / "attempts").exists()
