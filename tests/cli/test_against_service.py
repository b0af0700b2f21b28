"""The command against the real application over HTTP; only the trainer is pretended."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from typer.testing import Result

from service.app import create_app
from service.settings import Settings
from tests.service.plane import CONFIG, FakeLauncher, Plane, checkpoint, evaluation, finished, line, phase, step
from vishwamai.client import Client
from vishwamai.contract.schema import json_schema


class Server(uvicorn.Server):
    """Says when it listens, and ends open streams when it stops, as `python -m service` does."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextmanager
def serving(data_dir: Path) -> Iterator[tuple[Plane, str]]:
    launcher = FakeLauncher()
    app = create_app(Settings(data_dir=data_dir, tick_seconds=0.02), launcher)
    server = Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.listening.wait(30)
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx2.Client(base_url=address) as http:
            yield Plane(app, cast("TestClient", http), launcher), address
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[Plane, str]]:
    # The service logs in this process, whose stdout is the command's.
    with capture_logs(), serving(tmp_path) as parts:
        yield parts


def test_a_jobs_whole_life(service, run, config):
    plane, address = service
    file = config(json.dumps(CONFIG))
    assert "nothing was started" in run("submit", file, "--dry-run", at=address).stderr

    submitted = run("submit", file, "-o", "json", "--name", "first", at=address)
    assert submitted.exit_code == 0
    job = json.loads(submitted.stdout)["id"]
    assert plane.launched(job) == 1
    plane.report(job, phase("training"), line("hello [bold]"), step(10, 4.5), checkpoint(10), evaluation(10, 4.0))

    assert run("list", "--state", "running", "--name", "first", at=address).stdout.splitlines()[1].split()[0] == job
    assert "4.5000" in run("get", job, at=address).stdout
    assert "hello [bold]" in run("logs", job, "--tail", "5", at=address).stdout
    assert "Evaluation at step 10: loss 4.0000" in run("events", job, at=address).stdout
    assert "eval_loss" in run("metrics", job, at=address).stdout
    assert run("metrics", job, "--csv", "--name", "loss", at=address).stdout.splitlines()[1].endswith(",4.5")
    assert "/c/10" in run("checkpoints", job, at=address).stdout

    plane.report(job, step(20, 4.0), finished("completed", 20), seq=2)
    plane.exit(job, 0)
    for command in (["watch", job], ["logs", job, "-f"], ["events", job, "-f"]):
        assert run(*command, at=address).exit_code == 0
    conflict = run("cancel", job, at=address)
    assert conflict.exit_code == 2
    assert "succeeded" in conflict.stderr


def test_watching_through_reports_to_a_failure_and_a_retry(service, run):
    plane, address = service
    job = plane.begin()
    done: dict[str, Result] = {}
    watcher = threading.Thread(target=lambda: done.update(result=run("watch", job, at=address)))
    watcher.start()
    plane.report(job, phase("training"), step(10), checkpoint(10), finished("non_finite", 10))
    plane.exit(job, 71)
    watcher.join()
    assert done["result"].exit_code == 1
    assert "It is non_finite." in done["result"].stdout
    assert "hint: Lower training.learning_rate" in done["result"].stdout

    missing = run("retry", job, "--from-step", "7", at=address)
    assert missing.exit_code == 2
    assert "10" in missing.stderr
    assert run("retry", job, "--from-step", "10", at=address).exit_code == 0
    assert plane.launched(job) == 2


def test_events_as_a_stream_reach_the_sdk_while_they_happen(service):
    plane, address = service
    job = plane.begin()
    with Client(address) as client:
        events = client.events(job)
        seen = [next(events)]
        plane.report(job, phase("training"), step(1), evaluation(1, 4.0), finished("completed", 1))
        while seen[-1].kind != "eval":
            seen.append(next(events))
        plane.exit(job, 0)
        seen.extend(events)
        assert seen == list(client.past_events(job))
    assert [event.id for event in seen] == sorted({event.id for event in seen})
    assert seen[-1].data["state"] == "succeeded"


def test_a_lost_submission_sent_again_is_the_same_job(service, run, config):
    _, address = service
    ids = {
        json.loads(
            run("submit", config(json.dumps(CONFIG)), "--idempotency-key", "k", "-o", "json", at=address).stdout
        )["id"]
        for _ in range(2)
    }
    assert len(ids) == 1
    other = run("submit", config("{}"), "--idempotency-key", "k", at=address)
    assert other.exit_code == 2


def test_refusals_show_the_servers_reasons(service, run, config):
    _, address = service
    file = config('{\n"model": {\n"hiden_dim": 64,\n"num_heads": "8"}}')
    result = run("submit", file, at=address)
    assert result.exit_code == 2
    assert f"/model/hiden_dim ({file}:3)" in result.stderr
    assert "did you mean hidden_dim?" in result.stderr
    assert f"/model/num_heads ({file}:4)" in result.stderr
    assert run("get", "j0", at=address).exit_code == 3


def test_a_blocked_launch_says_its_reason_once(service, run, config):
    _, address = service
    result = run("submit", config('{"distillation": {}}'), at=address)
    assert result.exit_code == 2
    assert "/distillation" in result.stderr
    assert result.stderr.count("blocked") <= 1


def test_the_catalogue_the_schema_and_the_version(service, run):
    _, address = service
    assert "v5p" in run("accelerators", at=address).stdout
    assert "launcher local" in run("version", at=address).stdout
    assert json.loads(run("version", "-o", "json", at=address).stdout)["server"]["launcher"] == "local"
    with Client(address) as client:
        assert client.config_schema() == json_schema() == json.loads(run("schema").stdout)
        assert client.ready().status == "ok"
