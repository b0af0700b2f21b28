import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from tests.trainer.run.lives import Observer, live, losses, small_job
from trainer.checkpoints import manifest
from trainer.step import init_state
from vishwamai.contract.states import Cause


def at(kind, step, **fields):
    """True for the event of that kind and step."""
    wanted = {"kind": kind, "step": step} | fields
    return lambda event: all(getattr(event, name, None) == value for name, value in wanted.items())


def interrupt():
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_run_reports_learns_saves_and_leaves_its_files(uninterrupted):
    _, output, observer = uninterrupted
    assert [event.step for event in observer.of("step")] == list(range(1, 13))
    assert [event.step for event in observer.of("eval")] == [3, 6, 9, 12]
    assert observer.committed() == [4, 8, 12]
    assert observer.of("step")[0].loss == pytest.approx(math.log(258), rel=0.02)
    assert observer.of("eval")[-1].loss < observer.of("eval")[0].loss < math.log(258)
    assert observer.of("eval")[-1].perplexity == pytest.approx(math.exp(observer.of("eval")[-1].loss))
    assert observer.finished.cause is Cause.COMPLETED
    assert observer.finished.step == 12
    phases = [event.phase for event in observer.of("phase")]
    assert phases[:3] == ["starting", "restoring", "compiling"]
    assert phases[-1] == "finishing"
    assert sorted(path.name for path in output.iterdir()) == [
        "checkpoints",
        "log.jsonl",
        "metrics.jsonl",
        "prepared",
        "resolved.json",
        "sample.txt",
    ]
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == ["12", "4", "8"]
    assert len(losses(output)) == 16


def test_what_really_ran_is_told(uninterrupted):
    job, _, observer = uninterrupted
    (effective,) = observer.of("effective")
    assert effective.settings["backend"] == "cpu"
    assert effective.settings["devices"] == 1
    assert effective.settings["parameters"] == job.parameters
    assert effective.settings["data"]["tokenizer"] == "byte"
    assert effective.settings["resumed_from"] is None
    json.dumps(effective.settings)


def test_tokens_are_those_that_count_and_add_up(uninterrupted):
    job, _, observer = uninterrupted
    tokens = [event.tokens for event in observer.of("step")]
    assert tokens == sorted(set(tokens))
    assert 0 < tokens[0] <= job.batch.tokens_per_step
    assert tokens[-1] <= 12 * job.batch.tokens_per_step


@pytest.mark.parametrize(
    "moment",
    [at("step", 5), at("phase", 6, phase="evaluating"), at("phase", 8, phase="saving"), at("checkpoint", 4)],
    ids=["step", "evaluation", "save", "commit"],
)
def test_sigterm_saves_and_the_next_life_goes_on_as_if_nothing_had_been(uninterrupted, tmp_path, moment):
    job, whole, _ = uninterrupted
    first, second = Observer(moment, interrupt), Observer()
    assert live(job, tmp_path, first) == 73
    assert first.finished.cause is Cause.PREEMPTED
    stopped = first.finished.step
    assert first.committed()[-1] == stopped < 12
    assert "SIGTERM" in first.finished.message
    assert live(job, tmp_path, second, attempt=2) == 0
    assert [event.step for event in second.of("checkpoint") if event.action == "restored"] == [stopped]
    assert second.of("step")[0].step == stopped + 1
    assert losses(tmp_path) == losses(whole)
    assert second.of("step")[-1].tokens == uninterrupted[2].of("step")[-1].tokens


@pytest.mark.parametrize("phase", ["starting", "restoring", "compiling"])
def test_sigterm_before_the_first_step_ends_at_once(uninterrupted, tmp_path, phase):
    observer = Observer(at("phase", 0, phase=phase), interrupt)
    assert live(uninterrupted[0], tmp_path, observer) == 73
    assert observer.of("step") == []
    assert observer.finished.step == 0
    assert observer.committed() == []


def test_sigterm_while_libraries_load_ends_at_once(uninterrupted, tmp_path, monkeypatch):
    never = threading.Event()

    def load(_):
        interrupt()
        never.wait(60)

    monkeypatch.setattr("trainer.attempt.importlib", types.SimpleNamespace(import_module=load))
    observer = Observer()
    assert live(uninterrupted[0], tmp_path, observer) == 73
    never.set()
    assert observer.finished.message == "Stopped by SIGTERM before it had begun."
    assert [event.phase for event in observer.of("phase")] == ["starting"]


def test_sigkill_costs_what_came_after_the_last_committed_checkpoint(uninterrupted, tmp_path):
    job, whole, _ = uninterrupted
    (tmp_path / "job.json").write_text(job.model_dump_json())
    script = f"""
import os, signal
from pathlib import Path
from tests.trainer.run.lives import Observer, live
from vishwamai.contract.resolved import ResolvedJob
job = ResolvedJob.model_validate_json(Path({str(tmp_path / "job.json")!r}).read_bytes())
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
committed = lambda event: event.kind == "checkpoint" and event.step == 8
live(job, Path({str(tmp_path)!r}), Observer(committed, die))
"""
    first = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), timeout=200)
    assert first.returncode == -signal.SIGKILL, first.stderr
    second = Observer()
    assert live(job, tmp_path, second, attempt=2) == 0
    assert [event.step for event in second.of("checkpoint") if event.action == "restored"] == [8]
    assert losses(tmp_path) == losses(whole)


def test_a_run_that_was_at_its_end_has_nothing_to_do(uninterrupted, tmp_path):
    job, whole, _ = uninterrupted
    shutil.copytree(whole, tmp_path / "copy")
    observer = Observer()
    assert live(job, tmp_path / "copy", observer, attempt=2) == 0
    assert observer.of("step") == observer.of("eval") == observer.committed() == []
    assert "Nothing to do" in observer.finished.message
    assert losses(tmp_path / "copy") == losses(whole)


def test_a_longer_run_goes_on_and_forgets_what_it_takes_again(uninterrupted, tmp_path):
    _, whole, _ = uninterrupted
    shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/checkpoints/12")
    observer = Observer()
    job = small_job(tmp_path, training={"max_steps": 14})
    assert live(job, tmp_path / "copy", observer, attempt=2) == 0
    steps = [step for kind, step, _ in losses(tmp_path / "copy") if kind == "step"]
    assert steps == list(range(1, 15))
    assert observer.of("step")[0].step == 9


def test_another_corpus_under_the_checkpoint_takes_a_word(uninterrupted, tmp_path):
    _, whole, _ = uninterrupted
    shutil.copytree(whole, tmp_path / "copy")
    for allowed, code in ((False, 2), (True, 0)):
        job = small_job(tmp_path, training={"max_steps": 14}, data={"allow_change": allowed})
        (tmp_path / "corpus.txt").write_text("something else entirely. " * 500)
        observer = Observer()
        assert live(job, tmp_path / "copy", observer) == code
        warnings = [event.message for event in observer.of("log") if event.level == "warning"]
        assert len(warnings) == 1 + allowed
        assert "training.max_steps was 12 and is 14" in warnings[0]
        message = warnings[1] if allowed else observer.finished.message
        assert "the checkpoint of step 12 was trained with another corpus: " in message
    assert observer.finished.step == 14


def test_a_loss_that_is_no_number_ends_the_run_and_is_not_saved(tmp_path):
    # One enormous step: the weights overflow, and the next loss is no number.
    job = small_job(
        tmp_path,
        training={
            "learning_rate": 10.0,
            "warmup_steps": 0,
            "weight_decay": 10.0,
            "max_grad_norm": 0.0,
            "max_steps": 400,
        },
        model={"norm_epsilon": 1e-6},
        logging={"log_every": 50, "eval_every": 0, "save_every": 25},
    )
    observer = Observer()
    assert live(job, tmp_path / "output", observer) == 71
    assert observer.finished.cause is Cause.NON_FINITE
    assert "at step" in observer.finished.message


def test_early_stopping_ends_the_run_well(tmp_path):
    job = small_job(
        tmp_path,
        training={"early_stopping": {"patience": 2, "min_delta": 5.0}},
        logging={"eval_every": 2, "save_every": 0},
    )
    observer = Observer()
    assert live(job, tmp_path / "output", observer) == 0
    assert [event.step for event in observer.of("eval")] == [2, 4, 6]
    assert observer.finished.step == 6
    assert "early" in observer.finished.message
    assert observer.committed() == [6]
    again = Observer()
    assert live(job, tmp_path / "output", again, attempt=2) == 0
    assert again.of("step") == []


@pytest.fixture
def full_at(monkeypatch):
    """The disk is full whenever a checkpoint of these steps is committed."""
    steps: set[int] = set()
    write = manifest.write

    def refuse(folder):
        if int(folder.name.partition(".")[0]) in steps:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        write(folder)

    monkeypatch.setattr(manifest, "write", refuse)
    return steps


def test_a_save_that_fails_is_told_and_training_goes_on_to_the_next(uninterrupted, tmp_path, full_at):
    job, whole, _ = uninterrupted
    full_at.add(4)
    observer = Observer()
    assert live(job, tmp_path, observer) == 0
    assert [(event.action, event.step) for event in observer.of("checkpoint")] == [
        ("failed", 4),
        ("committed", 8),
        ("committed", 12),
    ]
    assert losses(tmp_path) == losses(whole)


def test_when_the_last_save_fails_the_run_fails_as_the_hosts_fault(uninterrupted, tmp_path, full_at):
    full_at.add(12)
    observer = Observer()
    assert live(uninterrupted[0], tmp_path, observer) == 74
    assert observer.finished.cause is Cause.HOST_ERROR
    assert str(tmp_path / "checkpoints") in observer.finished.message
    assert "No space left on device" in observer.finished.message
    assert observer.committed() == [4, 8]
    assert [event.step for event in observer.of("checkpoint") if event.action == "failed"] == [12]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(uninterrupted, tmp_path):
    job, whole, _ = uninterrupted
    shutil.copytree(whole, tmp_path / "copy")
    damaged = next((tmp_path / "copy/checkpoints/12/state/d").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-1])
    observer = Observer()
    assert live(job, tmp_path / "copy", observer, attempt=2) == 0
    assert [(event.action, event.step) for event in observer.of("checkpoint")] == [
        ("corrupt", 12),
        ("restored", 8),
        ("committed", 12),
    ]
    assert losses(tmp_path / "copy") == losses(whole)


def test_orders_of_the_control_plane_are_carried_out(tmp_path, planes):
    """It asks for a checkpoint, gets it, and then cancels."""
    saved, ended = threading.Event(), threading.Event()

    def answer(report):
        kinds = [event["kind"] for event in report["events"]]
        if any(event.get("action") == "committed" for event in report["events"]):
            saved.set()
        directive = "continue"
        if "step" in kinds and not saved.is_set():
            directive = "save"
        elif saved.is_set() and not ended.is_set():
            directive = "stop"
        return 200, {"accepted": True, "seq": report["seq"], "directive": directive}

    plane = planes(answer)
    job = small_job(tmp_path, training={"max_steps": 100_000}, logging={"save_every": 0, "eval_every": 0})
    observer = Observer()
    code = live(job, tmp_path / "output", observer, reports_url=plane.address, attempt=3)
    assert code == 75
    assert observer.finished.cause is Cause.CANCELLED
    assert len(observer.committed()) >= 2
    assert observer.committed()[-1] == observer.finished.step
    told = plane.events
    assert told[-1]["kind"] == "finished"
    assert [event["step"] for event in told if event["kind"] == "step"] == list(range(1, observer.finished.step + 1))


def test_an_attempt_that_another_has_replaced_stops_without_saving(tmp_path, planes):
    plane = planes(lambda report: (409, {"detail": "attempt 4 runs"}))
    job = small_job(tmp_path, training={"max_steps": 100_000}, logging={"save_every": 0, "eval_every": 0})
    observer = Observer()
    code = live(job, tmp_path / "output", observer, reports_url=plane.address, attempt=3)
    assert code == 75
    assert observer.committed() == []
    assert "Another attempt" in observer.finished.message


def test_a_run_with_nothing_held_out_says_that_it_is_not_evaluated(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("ab")
    observer = Observer()
    assert live(small_job(tmp_path, data={"train": [str(short)]}), tmp_path / "output", observer) == 0
    assert observer.of("eval") == []
    (warning,) = (event for event in observer.of("log") if event.level == "warning")
    assert "no text is held out" in warning.message
    assert "data.eval" in warning.message


def test_a_loss_too_large_for_the_cheaper_shift_goes_on_with_the_other(tmp_path, monkeypatch):
    job = small_job(tmp_path)
    execution = job.execution.model_copy(update={"loss_shift": "label"})
    job = job.model_copy(update={"execution": execution})

    def confident(job, mesh):
        """Logits of hundreds: some token's loss exceeds the 88 nats that the shift by the label allows."""
        state = init_state(job, mesh)
        return state._replace(params=state.params | {"embedding": 400.0 * state.params["embedding"]})

    monkeypatch.setattr("trainer.run.init_state", confident)
    observer = Observer()
    assert live(job, tmp_path / "output", observer) == 0
    warnings = [event.message for event in observer.of("log") if event.level == "warning"]
    assert warnings == ["a token's loss was too large for execution.loss_shift label; training goes on with max"]
    shifts = [event.settings["execution"]["loss_shift"] for event in observer.of("effective")]
    assert shifts == ["label", "max"]
    steps = [event.step for event in observer.of("step")]
    assert steps == list(range(2, 13)), "the step that found out is skipped"


def test_the_first_bad_layer_is_named_when_asked(tmp_path, monkeypatch):
    job = small_job(tmp_path, training={"find_bad_layer": True}, model={"num_layers": 3, "dropout_rate": 0.0})

    def broken(job, mesh):
        state = init_state(job, mesh)
        scale = state.params["blocks"]["mlp_norm"]["scale"]
        state.params["blocks"]["mlp_norm"]["scale"] = scale.at[1].set(float("inf"))
        return state

    monkeypatch.setattr("trainer.run.init_state", broken)
    observer = Observer()
    assert live(job, tmp_path / "output", observer) == 71
    assert "the output of layer 2 of 3 is the first that is no number" in observer.finished.message
