"""Bodies that a control plane answers with, for tests that need no control plane."""

from datetime import UTC, datetime, timedelta
from typing import Any

from vishwamai.contract.api import Attempt, Checkpoint, Job, JobEvent, LogLine, Progress
from vishwamai.contract.config import TrainingConfig
from vishwamai.contract.problems import Notice
from vishwamai.contract.resolved import Batch, Decision, Execution, Hardware, Mesh, Precision, ResolvedJob
from vishwamai.contract.states import Cause, JobState

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

RESOLVED = ResolvedJob(
    requested={},
    effective=TrainingConfig(),
    hardware=Hardware(
        platform="cpu",
        accelerator="v5e",
        accelerator_label="tpu-v5-lite-podslice",
        machine_type="ct5lp-hightpu-4t",
        topology="2x2",
        chips_per_slice=4,
        hosts_per_slice=1,
        chips_per_host=4,
        devices_per_chip=1,
        num_slices=1,
        spot=False,
    ),
    mesh=Mesh(data=4),
    precision=Precision(compute="float32"),
    execution=Execution(attention="dense", attention_block=128, remat="none", loss_chunk_tokens=1024, weight_axes=[]),
    batch=Batch(sequences_per_micro_batch=4, accumulation=1, sequences_per_step=4, tokens_per_step=256),
    parameters=123_456,
    decisions=[
        Decision(setting="optimization.use_fp8", requested=True, effective=False, why="FP8 gains nothing on v5e."),
        Decision(setting="tpu.accelerator", effective="v5e", why="It fits the topology."),
    ],
    warnings=[
        Notice(code="short-warmup", pointer="/training/warmup_steps", message="Warm-up is short.", fix="Use 10.")
    ],
)


def job(**changes: Any) -> Job:
    """A job that trains."""
    values: dict[str, Any] = {
        "id": "j1",
        "name": "tiny",
        "state": JobState.RUNNING,
        "code": "training",
        "reason": "Training.",
        "accelerator": "v5e",
        "created_at": START,
        "updated_at": START,
        "progress": Progress(step=10, max_steps=100, fraction=0.1, loss=3.25, tokens=2560, tokens_per_second=512.0),
        "launcher": "local",
        "output": "runs/j1",
        "resolved": RESOLVED,
        "decisions": RESOLVED.decisions,
        "warnings": RESOLVED.warnings,
        "attempts": [Attempt(number=1, started_at=START)],
        "restarts_left": 3,
    }
    return Job.model_validate(values | changes)


def succeeded(**changes: Any) -> Job:
    """The same job at its good end."""
    values: dict[str, Any] = {
        "state": JobState.SUCCEEDED,
        "code": "completed",
        "reason": "Trained all 100 steps.",
        "ended_at": START + timedelta(seconds=80),
        "progress": Progress(step=100, max_steps=100, fraction=1.0, loss=1.5, eval_loss=2.0, tokens=25_600),
        "sample": "def main():\n    pass",
    }
    return job(**(values | changes))


def failed(**changes: Any) -> Job:
    """The same job when its loss diverged."""
    attempt = Attempt(number=1, started_at=START, ended_at=START, exit_codes={"0": 71}, cause=Cause.NON_FINITE)
    values: dict[str, Any] = {
        "state": JobState.FAILED,
        "code": "non_finite",
        "reason": "The loss became NaN at step 11.",
        "ended_at": START,
        "attempts": [attempt],
    }
    return job(**(values | changes))


def event(number: int, kind: str = "eval", message: str = "", **data: Any) -> JobEvent:
    """One event."""
    return JobEvent(id=number, time=START, attempt=1, kind=kind, message=message or f"event {number}", data=data)


def line(number: int, message: str, **changes: Any) -> LogLine:
    """One log line."""
    return LogLine.model_validate({"id": number, "time": START, "attempt": 1, "message": message} | changes)


def checkpoint(step: int) -> Checkpoint:
    """One committed checkpoint."""
    path = f"runs/j1/checkpoints/{step}"
    return Checkpoint(step=step, path=path, attempt=1, committed_at=START, size_bytes=3 << 20, seconds=0.5)
