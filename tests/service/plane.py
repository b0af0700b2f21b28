"""A control plane whose attempts are only pretended: the real application, and a launcher that the test steers."""

import json
import queue
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.examples import examples
from service.launchers.base import Launch, NoExport
from service.records import Observation
from vishwamai.contract.export import ExportAnswer, ExportedFile, ExportRequest, ExportType
from vishwamai.contract.generation import GenerateAnswer, GeneratedText, GenerateRequest
from vishwamai.contract.plan import Plan
from vishwamai.contract.reports import Report

CONFIG: dict[str, dict[str, Any]] = {
    "model": {"vocab_size": 512, "hidden_dim": 64, "num_layers": 2, "num_heads": 4, "max_seq_len": 64},
    "training": {"batch_size": 4, "grad_accum_steps": 1, "max_steps": 200, "warmup_steps": 10},
    "run": {"name": "tiny", "max_restarts": 1},
}


class FakeLauncher:
    """Attempts that run from launch until the test says how they exit."""

    name = "local"

    def __init__(self) -> None:
        self.launches: queue.Queue[Launch] = queue.Queue()
        self.generation_fault: Exception | None = None
        self.export_fault: Exception | None = None
        self.plan_fault: Exception | None = None
        self.planned: list[tuple[bytes, str | None, dict[str, str]]] = []
        self.exported_files: dict[str, Path] = {}
        self._seen: dict[tuple[str, int], Observation] = {}

    async def launch(self, launch: Launch) -> None:
        if (launch.job_id, launch.attempt) not in self._seen:
            self._seen[launch.job_id, launch.attempt] = Observation(launch.job_id, launch.attempt, "running")
            self.launches.put(launch)

    async def observe(self, job_id: str, attempt: int) -> Observation:
        return self._seen.get((job_id, attempt), Observation(job_id, attempt, "absent"))

    async def undelivered(self, job_id: str, attempt: int) -> list[Report]:
        return []

    async def terminate(self, job_id: str, attempt: int, *, kill: bool) -> None:
        pass

    async def generate(self, job_id: str, request: GenerateRequest) -> GenerateAnswer:
        if self.generation_fault is not None:
            raise self.generation_fault
        texts = [
            GeneratedText(prompt=prompt, text="...", prompt_tokens=len(prompt), new_tokens=3, ended="length")
            for prompt in request.prompts
        ]
        return GenerateAnswer(texts=texts, step=request.step, kv_cache=request.kv_cache or "fp8")

    async def export(self, job_id: str, step: int, request: ExportRequest) -> ExportAnswer:
        if self.export_fault is not None:
            raise self.export_fault
        files = [ExportedFile(name="config.json", size_bytes=2)]
        return ExportAnswer(step=step, dtype=request.dtype, folder=f"/runs/jobs/{job_id}/exports/{step}", files=files)

    async def exported(self, job_id: str, step: int, dtype: ExportType, name: str) -> Path:
        if name not in self.exported_files:
            raise NoExport(f"no {name} of {step} as {dtype}")
        return self.exported_files[name]

    async def plan(self, config: bytes, on: str | None, teachers: Mapping[str, str]) -> Plan:
        if self.plan_fault is not None:
            raise self.plan_fault
        self.planned.append((config, on, dict(teachers)))
        return Plan.model_validate(examples()["Plan"])

    def output(self, job_id: str) -> str:
        return f"/runs/jobs/{job_id}"

    async def close(self) -> None:
        pass

    def exit(self, job_id: str, attempt: int, code: int) -> None:
        seen = self._seen[job_id, attempt]
        self._seen[job_id, attempt] = replace(seen, phase="exited", exit_codes={0: code}, last_lines=("the end",))


class Plane:
    """What a user, a trainer and a test can do."""

    def __init__(self, app: FastAPI, client: TestClient, launcher: FakeLauncher) -> None:
        self.app = app
        self.client = client
        self.launcher = launcher

    def submit(self, **sections: dict[str, Any]) -> str:
        config = {name: CONFIG.get(name, {}) | sections.get(name, {}) for name in CONFIG.keys() | sections.keys()}
        answer = self.client.post("/jobs", json=config)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def begin(self, **sections: dict[str, Any]) -> str:
        """Submits a job and waits until its first attempt is launched."""
        job_id = self.submit(**sections)
        assert self.launched(job_id) == 1
        return job_id

    def launched(self, job_id: str) -> int:
        launch = self.launcher.launches.get(timeout=30)
        assert launch.job_id == job_id
        return launch.attempt

    def report(
        self, job_id: str, *events: dict[str, Any], attempt: int = 1, seq: int = 1, process: int = 0, token=None
    ):
        token = token or self.app.state.credentials.token_for(job_id)
        body = {"attempt": attempt, "seq": seq, "process": process, "sent_at": stamp(), "events": list(events)}
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return self.client.post(f"/jobs/{job_id}/reports", content=json.dumps(body), headers=headers)

    def exit(self, job_id: str, code: int, *, attempt: int = 1) -> dict[str, Any]:
        """Ends the attempt and waits until the job is over, or on its way to another one."""
        self.launcher.exit(job_id, attempt, code)
        return self.wait(
            job_id,
            lambda job: (
                job["attempts"][attempt - 1]["ended_at"]
                and (job["ended_at"] or job["state"] == "restarting" or len(job["attempts"]) > attempt)
            ),
        )

    def wait(self, job_id: str, until) -> dict[str, Any]:
        """Waits, by the API's own long poll, until the job is as wanted."""
        after = 0
        while not until(job := self.get(job_id)):
            news = self.client.get(f"/jobs/{job_id}/events", params={"after": after, "wait": 10}).json()
            after = news["last_id"]
        return job

    def get(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()


def stamp(second: int = 0) -> str:
    return datetime(2026, 11, 23, 12, second // 60, second % 60, tzinfo=UTC).isoformat()


def step(number: int, loss: float | None = 3.0, **fields: Any) -> dict[str, Any]:
    values = {
        "kind": "step",
        "time": stamp(number % 3600),
        "step": number,
        "loss": loss,
        "learning_rate": 1e-3,
        "grad_norm": 1.5,
        "tokens": number * 256,
        "tokens_per_second": 1000.0,
        "step_seconds": 0.25,
    }
    return values | fields


def phase(name: str, number: int = 0) -> dict[str, Any]:
    return {"kind": "phase", "time": stamp(), "phase": name, "step": number}


def line(text: str, level: str = "info") -> dict[str, Any]:
    return {"kind": "log", "time": stamp(), "level": level, "message": text}


def checkpoint(number: int, action: str = "committed", **more: Any) -> dict[str, Any]:
    return {"kind": "checkpoint", "time": stamp(), "action": action, "step": number, "path": f"/c/{number}"} | more


def evaluation(number: int, loss: float, **more: Any) -> dict[str, Any]:
    values = {"kind": "eval", "time": stamp(), "step": number, "loss": loss, "perplexity": 8.0}
    return values | {"tokens": 512, "seconds": 0.5} | more


def finished(cause: str, number: int) -> dict[str, Any]:
    return {"kind": "finished", "time": stamp(), "cause": cause, "step": number, "message": f"It is {cause}."}
