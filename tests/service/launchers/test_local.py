import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from service.launchers.base import LaunchError
from service.launchers.processes import birth
from service.launchers.supervisor import take_lock
from tests.service.launchers.place import end_all, is_gone, launch, launcher_at, trainer_pid, until
from vishwamai.contract.resolved import ResolvedJob


@pytest.fixture
def data_dir(tmp_path):
    yield tmp_path
    end_all(tmp_path)


@pytest.fixture
def job_dir(data_dir):
    folder = data_dir / "jobs" / "job-1"
    folder.mkdir(parents=True)
    return folder


def observe(launcher, attempt=1):
    return asyncio.run(launcher.observe("job-1", attempt))


def exited(launcher, attempt=1):
    def look():
        seen = observe(launcher, attempt)
        return seen if seen.phase == "exited" else None

    return until(look)


def supervisor_of(job_dir, attempt=1):
    return json.loads((job_dir / "attempts" / str(attempt) / "process.json").read_text())["pid"]


def test_all_attempts_run_in_the_folder_that_the_first_one_was_started_in(data_dir, job_dir, tmp_path, monkeypatch):
    (job_dir / "script.json").write_text(json.dumps({"exit": 1}))
    first, second = tmp_path / "first", tmp_path / "second"
    for attempt, folder in enumerate((first, second), start=1):
        folder.mkdir()
        # A file there must not be taken for one of our modules.
        (folder / "service.py").write_text("raise SystemExit('not this one')")
        monkeypatch.chdir(folder)
        launcher = launcher_at(data_dir)
        asyncio.run(launcher.launch(launch(attempt)))
        assert exited(launcher, attempt).exit_codes == {0: 1}
        assert (job_dir / "directory").read_text() == str(first)
    first.rename(tmp_path / "elsewhere")
    with pytest.raises(LaunchError, match=r"first', which the job was started in, is gone"):
        asyncio.run(launcher.launch(launch(3)))


def test_an_attempt_runs_to_its_end(data_dir, job_dir):
    (job_dir / "script.json").write_text(json.dumps({"print": "a first line\na last line"}))
    launcher = launcher_at(data_dir)
    assert observe(launcher).phase == "absent"
    asyncio.run(launcher.launch(launch()))
    assert observe(launcher).phase == "running"
    pid = trainer_pid(data_dir)
    (job_dir / "finish").touch()
    seen = exited(launcher)
    assert seen.exit_codes == {0: 0}
    assert seen.ended_at.utcoffset() is not None
    assert seen.last_lines == ("a first line", "a last line")
    assert is_gone(pid)


@pytest.mark.parametrize("code", [1, 2, 75])
def test_the_trainers_exit_code_is_kept(data_dir, job_dir, code):
    (job_dir / "script.json").write_text(json.dumps({"exit": code}))
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    assert exited(launcher).exit_codes == {0: code}


def test_launching_twice_or_at_the_same_time_starts_one_process(data_dir, job_dir):
    async def several():
        await asyncio.gather(*(launcher_at(data_dir).launch(launch()) for _ in range(4)))

    asyncio.run(several())
    trainer_pid(data_dir)
    asyncio.run(several())
    (job_dir / "finish").touch()
    exited(launcher_at(data_dir))
    asyncio.run(several())
    assert len((job_dir / "starts").read_text().splitlines()) == 1


def test_the_trainer_gets_its_job_and_none_of_the_services_secrets(data_dir, job_dir):
    (job_dir / "script.json").write_text(json.dumps({"exit": 0}))
    environ = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "VISHWAMAI_DATABASE_URL": "postgresql://user:password@host",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    launcher = launcher_at(data_dir, environ=environ)
    asyncio.run(launcher.launch(launch()))
    exited(launcher)
    given = json.loads((job_dir / "environment.json").read_text())
    assert given["JAX_PLATFORMS"] == "cpu"
    assert given["VISHWAMAI_COMPILE_CACHE"] == str(data_dir / "compiled")
    assert given["PATH"] == os.environ["PATH"]
    assert "AWS_SECRET_ACCESS_KEY" not in given
    assert "VISHWAMAI_DATABASE_URL" not in given
    assert given["VISHWAMAI_REPORTS_URL"] == "http://127.0.0.1:1/jobs/job-1/reports"
    assert given["VISHWAMAI_ATTEMPT"] == "1"
    assert ResolvedJob.model_validate_json(Path(given["VISHWAMAI_RESOLVED"]).read_text()) == launch().resolved
    token = job_dir / "reports.token"
    assert given["VISHWAMAI_REPORTS_TOKEN_FILE"] == str(token)
    assert token.read_text() == "a-secret-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_sigterm_reaches_the_trainer_once_however_often_it_is_asked_for(data_dir, job_dir):
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    trainer_pid(data_dir)
    for again in (launcher, launcher, launcher_at(data_dir)):
        asyncio.run(again.terminate("job-1", 1, kill=False))
    assert exited(launcher).exit_codes == {0: 73}
    asyncio.run(launcher.terminate("job-1", 1, kill=False))
    asyncio.run(launcher.terminate("job-1", 1, kill=True))


def test_a_kill_takes_the_trainer_and_its_children_and_keeps_the_record(data_dir, job_dir):
    (job_dir / "script.json").write_text(json.dumps({"deaf": True, "child": True}))
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    pid, child = trainer_pid(data_dir), int((job_dir / "child").read_text())
    asyncio.run(launcher.terminate("job-1", 1, kill=False))
    assert observe(launcher).phase == "running"
    asyncio.run(launcher.terminate("job-1", 1, kill=True))
    assert exited(launcher).exit_codes == {0: -9}
    assert is_gone(pid)
    assert is_gone(child)


def test_children_that_outlive_their_trainer_are_ended(data_dir, job_dir):
    (job_dir / "script.json").write_text(json.dumps({"child": True}))
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    pid = trainer_pid(data_dir)
    os.kill(pid, signal.SIGKILL)
    assert exited(launcher).exit_codes == {0: -9}
    child = int((job_dir / "child").read_text())
    until(lambda: is_gone(child))


def test_a_trainer_whose_supervisor_was_killed_goes_on_and_can_be_stopped(data_dir, job_dir):
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    pid = trainer_pid(data_dir)
    os.kill(supervisor_of(job_dir), signal.SIGKILL)
    until(lambda: is_gone(supervisor_of(job_dir)))
    asyncio.run(launcher.launch(launch()))
    seen = observe(launcher)
    assert seen.phase == "running"
    assert "supervisor was killed" in seen.message
    asyncio.run(launcher.terminate("job-1", 1, kill=False))
    until(lambda: is_gone(pid))
    assert exited(launcher).exit_codes == {}
    assert (job_dir / "starts").read_text() == f"1 {pid}\n"


def test_a_process_that_was_given_the_number_of_ours_is_not_ours(data_dir, job_dir):
    folder = job_dir / "attempts" / "1"
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        (folder / "process.json").write_text(json.dumps({"pid": other.pid, "birth": "another-boot:1"}))
        launcher = launcher_at(data_dir)
        seen = observe(launcher)
        assert (seen.phase, seen.exit_codes) == ("exited", {})
        for kill in (False, True):
            asyncio.run(launcher.terminate("job-1", 1, kill=kill))
        assert birth(other.pid) is not None
        other.communicate(b"\n")
        assert other.returncode == 0


def test_an_attempt_ended_before_it_started_never_starts(data_dir, job_dir):
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.terminate("job-1", 1, kill=True))
    asyncio.run(launcher.launch(launch()))
    assert observe(launcher).phase == "exited"
    assert not (job_dir / "starts").exists()
    asyncio.run(launcher.launch(launch(2)))
    trainer_pid(data_dir, 2)


def test_a_supervisor_that_is_just_starting_is_left_to_it(data_dir, job_dir):
    folder = job_dir / "attempts" / "1"
    folder.mkdir(parents=True)
    lock = take_lock(folder)
    assert lock is not None
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    assert observe(launcher).phase == "absent"
    os.close(lock)
    asyncio.run(launcher.launch(launch()))
    assert observe(launcher).phase == "running"


def test_a_folder_that_cannot_be_written_is_said_to_the_owner(data_dir):
    (data_dir / "jobs").write_text("a file where the folder should be")
    with pytest.raises(LaunchError, match="folder cannot be written"):
        asyncio.run(launcher_at(data_dir).launch(launch()))


def test_a_trainer_that_cannot_be_started_says_why(data_dir, job_dir):
    broken = launcher_at(data_dir)
    broken._command = ("/no/such/script.py",)
    asyncio.run(broken.launch(launch()))
    seen = exited(broken)
    assert seen.exit_codes == {0: 2}
    assert "/no/such/script.py" in seen.last_lines[-1]


def test_a_supervisor_that_cannot_start_says_why(data_dir, job_dir):
    with pytest.raises(LaunchError, match=r"supervisor could not start: .*"):
        asyncio.run(launcher_at(data_dir, python="/bin/false").launch(launch()))


def test_only_the_end_of_a_long_output_is_read(data_dir, job_dir):
    lines = "\n".join(f"line {n}" for n in range(20_000))
    (job_dir / "script.json").write_text(json.dumps({"print": lines, "exit": 1}))
    launcher = launcher_at(data_dir)
    asyncio.run(launcher.launch(launch()))
    seen = exited(launcher)
    assert seen.last_lines == tuple(f"line {n}" for n in range(19_980, 20_000))
    assert (job_dir / "attempts" / "1" / "output.log").read_text().startswith("line 0\n")
