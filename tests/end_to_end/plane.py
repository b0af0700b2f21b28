"""The real control plane as a process of its own, its real trainers, and what a user and an operator do to both."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil

from tests.service.launchers.place import end_all

PATIENCE = 120.0
"""Seconds for what takes a few on an idle machine."""
FINAL = {"succeeded", "failed", "cancelled"}

Event = dict[str, Any]


class ControlPlane:
    """`python -m service` on a data folder; it may be killed and started again on the same port."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._port = 0
        self._log = data_dir.with_name("service.log")
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx2.Client(timeout=60)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.http.close()
        end_all(self.data_dir)

    def start(self) -> None:
        """Starts the service and waits until it is ready."""
        settings = {"DATA_DIR": self.data_dir, "PORT": self._port, "TICK_SECONDS": 0.1, "MAX_RUNNING_JOBS": 2}
        environ = os.environ | {f"VISHWAMAI_{name}": str(value) for name, value in settings.items()}
        environ.pop("XLA_FLAGS", None)  # trainers bring up as many devices as their job has
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "service"], env=environ, stderr=log)
        address = self._until(lambda: self._address(begin))
        self._port = int(address.rpartition(":")[2])
        self.http.base_url = httpx2.URL(address)
        self._until(self._is_ready)

    def kill(self) -> None:
        """SIGKILL: no chance to put anything in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _until[T](self, look: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            assert self._process is not None
            assert self._process.poll() is None, f"the service ended: {self._log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"the service does not come up: {self._log.read_text()[-3000:]}"
            time.sleep(0.05)
        return found

    def _address(self, begin: int) -> str | None:
        for line in self._log.read_bytes()[begin:].decode().splitlines():
            if "service.listening" in line:
                return str(json.loads(line)["url"])
        return None

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def submit(self, config: dict[str, Any]) -> "JobHandle":
        answer = self.http.post("/jobs", json=config)
        assert answer.status_code == 201, answer.text
        assert answer.headers["Location"] == f"/jobs/{answer.json()['id']}"
        return JobHandle(self, answer.json()["id"])


class JobHandle:
    """One job over HTTP, and its processes."""

    def __init__(self, plane: ControlPlane, job_id: str) -> None:
        self.plane = plane
        self.id = job_id
        self.seen: list[Event] = []
        """Events read so far."""

    def get(self, part: str = "", **parameters: Any) -> Any:
        answer = self.plane.http.get(f"/jobs/{self.id}{part}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, action: str, body: Any = None, **parameters: Any) -> Any:
        answer = self.plane.http.post(f"/jobs/{self.id}:{action}", json=body, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def events(self) -> Iterator[Event]:
        """Events as they happen, from the first one not read yet."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            page = self.get("/events", after=self.seen[-1]["id"] if self.seen else 0, wait=10)
            for event in page["events"]:
                self.seen.append(event)
                yield event
        raise AssertionError(f"waited in vain; {self.get()['reason']} Last: {[e['message'] for e in self.seen[-5:]]}")

    def await_event(self, kind: str, **data: Any) -> Event:
        """The next event of this kind with these values in its data."""
        return next(e for e in self.events() if e["kind"] == kind and data.items() <= e["data"].items())

    def await_step(self, beyond: int) -> int:
        """Waits until the trainer has reported a step beyond this one, and says which."""
        deadline = time.monotonic() + PATIENCE
        while (job := self.get())["progress"]["step"] <= beyond or job["state"] != "running":
            assert job["state"] not in FINAL, job["reason"]
            assert time.monotonic() < deadline, job["reason"]
            time.sleep(0.05)
        return int(job["progress"]["step"])

    def await_end(self) -> dict[str, Any]:
        """The job once it is over."""
        next(e for e in self.events() if e["kind"] == "state" and e["data"]["state"] in FINAL)
        job: dict[str, Any] = self.get()
        return job

    @property
    def folder(self) -> Path:
        return self.plane.data_dir / "jobs" / self.id

    def signal_trainer(self, attempt: int, number: signal.Signals) -> None:
        record = json.loads((self.folder / "attempts" / str(attempt) / "process.json").read_text())
        [trainer] = psutil.Process(record["pid"]).children()
        trainer.send_signal(number)

    def report(self, attempt: int, seq: int, *events: Event) -> httpx2.Response:
        """Sends a report as the trainer would."""
        token = (self.folder / "reports.token").read_text()
        body = {"attempt": attempt, "seq": seq, "sent_at": "2026-11-23T12:00:00Z", "events": list(events)}
        headers = {"Authorization": f"Bearer {token}"}
        return self.plane.http.post(f"/jobs/{self.id}/reports", json=body, headers=headers)
