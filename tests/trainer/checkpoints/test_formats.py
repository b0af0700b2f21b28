"""Checkpoints of earlier releases are gone on from."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from trainer.batch import Batch
from trainer.checkpoints import Checkpoints
from trainer.mesh import make_mesh
from trainer.restored import params_at
from trainer.resume import checker
from trainer.step import abstract_state, make_train_step, put_batch
from vishwamai.contract.reports import CheckpointEvent
from vishwamai.contract.resolved import ResolvedJob

DATA = Path(__file__).parent / "data"


@pytest.fixture(params=["format1", "format2"])
def run(request, tmp_path):
    """A run's output folder as that release left it, and its job."""
    shutil.copytree(DATA / request.param, tmp_path / "run")
    return tmp_path / "run", ResolvedJob.model_validate_json((tmp_path / "run/resolved.json").read_bytes())


def test_training_goes_on_as_it_did_then(run):
    output, job = run
    mesh = make_mesh(job)
    events: list[CheckpointEvent] = []
    checkpoints = Checkpoints(output / "checkpoints", job.effective.checkpoint, events.append)
    check = checker(job, {"tokenizer_fingerprint": "t", "corpus_fingerprint": "c"})
    restored = checkpoints.restore(abstract_state(job, mesh), check)
    checkpoints.close()
    assert restored is not None
    assert [(event.action, event.step) for event in events] == [("restored", 3)]
    assert restored.extra["tokens"] == 192
    then = np.load(output / "next.npz")
    step, state, losses = make_train_step(job, mesh), restored.state, []
    for tokens in then["tokens"]:
        ones = np.ones((4, 16), np.float32)
        batch = Batch(tokens[:, :-1], tokens[:, 1:], ones.astype(np.int32), ones)
        state, metrics = step(state, put_batch(batch, mesh))
        losses.append(metrics.loss)
    # Another XLA or another processor may add up in another order: a few ulp of float32.
    np.testing.assert_allclose(losses, then["losses"], rtol=2e-6)


def test_its_weights_can_be_read_alone(run):
    output, job = run
    params, step = params_at(job, make_mesh(job), output, None)
    assert step == 3
    assert params["embedding"].shape == (258, 8)
