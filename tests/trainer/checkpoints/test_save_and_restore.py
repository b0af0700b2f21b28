import os
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from tests.trainer.checkpoints.fixtures import abstract, assert_same, make_state
from trainer.checkpoints import Checkpoints, manifest
from trainer.errors import UserError
from vishwamai.contract.config import CheckpointSection


def test_an_empty_folder_starts_from_scratch(recorder):
    assert recorder.open().restore(abstract(make_state(0))) is None
    assert recorder.told() == []


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_state_comes_back_as_it_was(recorder, asynchronous):
    recorder.save(10, 20, asynchronous=asynchronous)
    restored = recorder.open().restore(abstract(make_state(0)))
    assert (restored.step, restored.extra) == (20, {"saved_at": 20})
    assert_same(restored.state, make_state(20))
    assert recorder.told() == [("restored", 20)]


def test_a_save_is_told_only_when_committed(tmp_path):
    seen = []
    checkpoints = Checkpoints(
        tmp_path, CheckpointSection(), lambda event: seen.append((event, checkpoints.committed_steps()))
    )
    checkpoints.save(make_state(5), 5, {})
    checkpoints.close()
    [(event, committed)] = seen
    assert committed == [5]
    assert (event.action, event.step, event.path) == ("committed", 5, str(tmp_path / "5"))
    assert event.size_bytes == sum(path.stat().st_size for path in (tmp_path / "5").rglob("*") if path.is_file())
    assert event.seconds is not None
    assert event.seconds > 0


def test_training_goes_on_while_a_checkpoint_is_committed(recorder, monkeypatch):
    """The state is donated and overwritten before its commit, and still what was saved is what comes back."""
    overwritten = threading.Event()
    write = manifest.write

    def write_late(folder):
        assert overwritten.wait(60)
        write(folder)

    monkeypatch.setattr(manifest, "write", write_late)
    checkpoints = recorder.open()
    state = make_state(7, width=65536)
    expected = jax.tree.map(np.array, state)
    checkpoints.save(state, 7, {})
    jax.block_until_ready(jax.jit(lambda tree: jax.tree.map(lambda leaf: -leaf, tree), donate_argnums=0)(state))
    assert (checkpoints.committed_steps(), recorder.told()) == ([], [])
    overwritten.set()
    checkpoints.wait()
    assert recorder.told() == [("committed", 7)]
    assert_same(checkpoints.restore(abstract(make_state(0, width=65536))).state, expected)


@pytest.mark.parametrize(("saved_on", "restored_on"), [(8, 1), (1, 8), (4, 8)])
def test_a_state_comes_back_onto_another_mesh(recorder, saved_on, restored_on):
    checkpoints = recorder.open()
    checkpoints.save(make_state(3, devices=saved_on), 3, {})
    target = make_state(0, devices=restored_on)
    restored = checkpoints.restore(abstract(target))
    assert_same(restored.state, make_state(3))
    assert restored.state.params["kernel"].sharding == target.params["kernel"].sharding


def test_the_same_step_is_saved_once(recorder):
    checkpoints = recorder.save(10)
    checkpoints.save(make_state(10), 10, {})
    checkpoints.wait()
    again = recorder.open()
    again.restore(abstract(make_state(0)))
    again.save(make_state(10), 10, {})
    again.wait()
    assert recorder.told() == [("restored", 10)]
    assert recorder.names() == ["10"]


class TestWhereTheRunStartsFrom:
    def test_a_chosen_step_sets_newer_ones_aside(self, recorder):
        recorder.save(10, 20, 30)
        checkpoints = recorder.open(restore=10)
        restored = checkpoints.restore(abstract(make_state(0)))
        assert_same(restored.state, make_state(10))
        assert recorder.told() == [("restored", 10), ("deleted", 20), ("deleted", 30)]
        assert "set aside as 20.superseded" in recorder.events[1].message
        assert recorder.names() == ["10", "20.superseded", "30.superseded"]
        checkpoints.save(make_state(21), 20, {})
        checkpoints.wait()
        assert_same(recorder.open().restore(abstract(make_state(0))).state, make_state(21))

    def test_never_sets_all_aside(self, recorder):
        recorder.save(10, 20)
        assert recorder.open(restore="never").restore(abstract(make_state(0))) is None
        assert recorder.told() == [("deleted", 10), ("deleted", 20)]
        assert recorder.open().committed_steps() == []

    def test_a_step_that_is_not_there(self, recorder):
        recorder.save(10, 20)
        with pytest.raises(UserError, match=r"checkpoint\.restore asks for step 15.*committed steps \(10, 20\)"):
            recorder.open(restore=15).restore(abstract(make_state(0)))
        assert recorder.names() == ["10", "20"]


class TestAnotherModel:
    def test_other_shapes_are_named_and_nothing_is_set_aside(self, recorder):
        recorder.save(10)
        with pytest.raises(UserError, match=r"params\.kernel: float32\[8, 16\] saved, float32\[8, 32\] now.*'never'"):
            recorder.open().restore(abstract(make_state(0, width=32)))
        assert recorder.told() == []
        assert recorder.names() == ["10"]

    def test_missing_and_additional_arrays_are_named(self, recorder):
        recorder.save(10)
        state = make_state(0)
        params = {"kernel": state.params["kernel"], "bias": state.params["scale"]}
        with pytest.raises(UserError) as caught:
            recorder.open().restore(abstract(state._replace(params=params)))
        assert "params.bias: absent saved, float32[16] now" in str(caught.value)
        assert "params.scale: float32[16] saved, absent now" in str(caught.value)


class TestRetention:
    def test_the_newest_and_every_nth_are_kept(self, recorder):
        checkpoints = recorder.open(keep_last=2, keep_every=40)
        for step in (10, 20, 30, 40, 50, 60, 70):
            checkpoints.save(make_state(step), step, {})
        checkpoints.wait()
        assert checkpoints.committed_steps() == [40, 60, 70]
        assert recorder.names() == ["40", "60", "70"]
        assert [step for action, step in recorder.told() if action == "deleted"] == [10, 20, 30, 50]

    def test_an_old_one_goes_only_after_the_new_one_is_committed(self, recorder):
        checkpoints = recorder.open(keep_last=1)
        for step in (1, 2):
            checkpoints.save(make_state(step), step, {})
        checkpoints.wait()
        assert recorder.told() == [("committed", 1), ("committed", 2), ("deleted", 1)]


def test_orbax_leaves_our_metrics_in_one_process():
    """A switch of Orbax puts every Prometheus client of the process into multiprocess mode; it stays off."""
    program = "import os, trainer.checkpoints; print(os.environ.get('PROMETHEUS_MULTIPROC_DIR'))"
    environment = os.environ | {"ENABLE_ORBAX_PROMETHEUS_TELEMETRY": "true"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "None"
