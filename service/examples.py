"""An example for every body of the API, made of real values so that none can grow out of date."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from service.operations import views
from service.operations.submit import SITE
from service.records import AttemptRecord, JobRecord, ProgressRecord
from service.routes.catalogue import Index
from vishwamai import __version__
from vishwamai.contract.accelerators import accelerator_list
from vishwamai.contract.api import (
    AttemptList,
    Checkpoint,
    CheckpointList,
    EventList,
    Health,
    JobEvent,
    JobList,
    LogLine,
    LogPage,
    MetricsPage,
    RetryRequest,
    Series,
    Validation,
    Version,
)
from vishwamai.contract.export import ExportAnswer, ExportedFile, ExportRequest
from vishwamai.contract.generation import GenerateAnswer, GeneratedText, GenerateRequest
from vishwamai.contract.load import check_config
from vishwamai.contract.plan import Plan, PlanMemory
from vishwamai.contract.problems import Problem, ProblemDocument
from vishwamai.contract.reports import (
    EvalEvent,
    GoodputEvent,
    PhaseEvent,
    Report,
    ReportReceipt,
    Spending,
    StepEvent,
)
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Mesh
from vishwamai.contract.states import JobState

CONFIG = {
    "model": {"vocab_size": 512, "hidden_dim": 128, "num_layers": 2, "num_heads": 4, "max_seq_len": 128},
    "training": {"batch_size": 4, "grad_accum_steps": 1, "learning_rate": 0.001, "warmup_steps": 20, "max_steps": 200},
    "run": {"name": "first-steps", "labels": {"team": "docs"}, "tags": ["demo"]},
}
JOB_ID = "j01kq9d3x2mzv4t8b7"
_AT = datetime(2026, 11, 23, 16, 0, tzinfo=UTC)
_LATER = _AT + timedelta(minutes=2)
_PROBLEM = ProblemDocument(
    type="/problems/invalid-config",
    title="Invalid config",
    status=422,
    detail="the config cannot be accepted: 1 thing is wrong with it",
    instance="/jobs",
    errors=[
        Problem(
            pointer="/training/batch_size",
            message="training.batch_size is a string",
            value="8",
            accepted="a whole number from 1 to 65536",
            hint="write 8 without quotes",
        )
    ],
)

_REQUEST = GenerateRequest(prompts=["def main():"], max_new_tokens=64, temperature=0.0)
_TEXT = GeneratedText(prompt="def main():", text="\n    pass", prompt_tokens=11, new_tokens=9, ended="eos")
_EXPORTED = ExportAnswer(
    step=100,
    dtype="bfloat16",
    folder=f"data/jobs/{JOB_ID}/exports/100-bfloat16",
    files=[ExportedFile(name="config.json", size_bytes=812), ExportedFile(name="model.safetensors", size_bytes=52_432)],
)
_ANSWER = GenerateAnswer(texts=[_TEXT], step=100, kv_cache="fp8")


_PLAN = Plan(
    accelerator="v5e",
    topology="2x4",
    num_slices=1,
    devices=8,
    mesh=Mesh(data=8),
    parameters=327_000_000,
    tokens_per_step=131_072,
    tokens_per_device=16_384,
    fits=False,
    memory=PlanMemory(required=18 * 2**30, available=16_911_433_728),
    advice=["training.batch_size 4 with grad_accum_steps 8 saves 1.2 GiB"],
    decisions=[],
    notes=[],
    versions={"jax": "0.12.0.1", "libtpu": "0.0.52"},
    compile_seconds=41.5,
)


def examples() -> dict[str, Any]:
    """Example bodies by the name of their schema."""
    values = [*_job_values(), *_watching_values(), *_report_values(), _PROBLEM, accelerator_list()]
    values += [Health(status="ok", checks={"database": "ok", "reconcile": "ok"})]
    values += [Index(service="VishwamAI training service", version=__version__, links={"jobs": "/jobs"})]
    values += [Version(version=__version__, launcher="local"), RetryRequest(from_step=100)]
    values += [_REQUEST, _ANSWER, ExportRequest(dtype="bfloat16"), _EXPORTED, _PLAN]
    return {type(value).__name__: value.model_dump(mode="json") for value in values}


def _job_values() -> list[BaseModel]:
    resolved = resolve(check_config(CONFIG), SITE["local"])
    seconds: dict[Spending, float] = {"init": 3.0, "compile": 8.0, "step": 14.0, "eval": 1.0, "save_stall": 0.2}
    account = GoodputEvent(time=_LATER, step=120, wall_seconds=26.2, seconds=seconds)
    attempt = AttemptRecord(1, _AT, first_step=1, last_step=120, goodput=account)
    record = JobRecord(
        id=JOB_ID,
        name="first-steps",
        state=JobState.RUNNING,
        code="training",
        reason="Attempt 1 is training.",
        created_at=_AT,
        updated_at=_LATER,
        resolved=resolved,
        attempts=(attempt,),
    )
    progress = ProgressRecord(120, "training", 2.91, 3.02, 5.2e-4, 61_440, 4300.0, 0.12, _LATER)
    checkpoint = Checkpoint(
        step=100, path=f"runs/jobs/{JOB_ID}/checkpoints/100", attempt=1, committed_at=_LATER, size_bytes=6_291_456
    )
    job = views.job(
        record,
        progress,
        launcher="local",
        output=f"runs/jobs/{JOB_ID}",
        history=[_state_event(3, "running", "training", "Attempt 1 is training.")],
        checkpoints=[checkpoint],
    )
    return [
        job,
        JobList(jobs=[views.job_summary(record, progress)], next_cursor=JOB_ID),
        Validation(resolved=resolved, decisions=resolved.decisions, warnings=resolved.warnings),
        AttemptList(attempts=views.attempts(record)),
        CheckpointList(checkpoints=[checkpoint]),
    ]


def _watching_values() -> list[BaseModel]:
    line = LogLine(id=17, time=_LATER, attempt=1, message="saved step 100  6.29MB  0.2 s")
    loss = Series(name="loss", steps=[100, 120], times=[_AT, _LATER], values=[3.05, 2.91])
    return [
        EventList(events=[_state_event(3, "running", "training", "Attempt 1 is training.")], last_id=3),
        LogPage(lines=[line], last_id=17),
        MetricsPage(job_id=JOB_ID, series=[loss]),
    ]


def _report_values() -> list[BaseModel]:
    step = StepEvent(
        time=_LATER,
        step=120,
        loss=2.91,
        learning_rate=5.2e-4,
        grad_norm=0.8,
        tokens=61_440,
        tokens_per_second=4300.0,
        step_seconds=0.12,
    )
    evaluation = EvalEvent(time=_LATER, step=120, loss=3.02, perplexity=20.5, tokens=4096, seconds=0.4)
    phase = PhaseEvent(time=_LATER, phase="training", step=120)
    return [
        Report(attempt=1, seq=7, sent_at=_LATER, events=[phase, step, evaluation]),
        ReportReceipt(accepted=True, seq=7),
    ]


def _state_event(number: int, state: str, code: str, message: str) -> JobEvent:
    return JobEvent(
        id=number, time=_LATER, attempt=1, kind="state", message=message, data={"state": state, "code": code}
    )
