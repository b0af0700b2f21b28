"""A batch that ruins the loss is left out, and the rest goes on as if it had never been there."""

import statistics

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.run.lives import Observer, live, losses, small_job
from trainer.bad_loss import LEAST, LeftOut, Spikes
from trainer.run import Run
from vishwamai.contract.states import Cause

BAD = 7
TRAINING = {"on_bad_loss": "rewind", "max_steps": 12}


@pytest.fixture
def spoilt(monkeypatch):
    """Lives meet batches that `change` makes, given the number of each and what is there."""
    fetch = Run._fetch

    def spoil(change):
        def changed(run, number):
            return jax.tree.map(
                lambda old, new: jax.device_put(new, old.sharding),
                fetch(run, number),
                change(number, jax.device_get(fetch(run, number))),
            )

        monkeypatch.setattr(Run, "_fetch", changed)

    return spoil


def not_a_number(batch):
    return batch._replace(weights=np.full_like(batch.weights, np.nan))


def one_bad(number, batch):
    return not_a_number(batch) if number == BAD else batch


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Losses of a run that never had the batch."""
    fetch = Run._fetch
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_fetch", lambda run, number: fetch(run, number + (number >= BAD)))
        job = small_job(tmp_path, training={"max_steps": 12})
        assert live(job, tmp_path / "without", Observer()) == 0
    return losses(tmp_path / "without")


def test_a_batch_that_gives_no_number_is_left_out(tmp_path, spoilt, without):
    spoilt(one_bad)
    observer = Observer()
    assert live(small_job(tmp_path, training=TRAINING), tmp_path / "output", observer) == 0
    [rewind] = observer.of("rewind")
    assert (rewind.step, rewind.from_step, rewind.batches) == (4, BAD, [BAD])
    assert losses(tmp_path / "output") == without
    warnings = [event.message for event in observer.of("log") if event.level == "warning"]
    assert rewind.message in warnings


def test_what_is_left_out_outlives_the_process(tmp_path, spoilt, without):
    """Ended after the rewind and a save; the next life never meets the batch."""
    spoilt(one_bad)
    job = small_job(tmp_path, training=TRAINING, checkpoint={"keep_last": 100})
    assert live(job, tmp_path / "output", Observer()) == 0
    for step in (12, 4):
        (tmp_path / "output/checkpoints" / str(step)).rename(tmp_path / str(step))
    observer = Observer()
    assert live(job, tmp_path / "output", observer, attempt=2) == 0
    assert [event.step for event in observer.of("checkpoint") if event.action == "restored"] == [8]
    assert observer.of("rewind") == []
    assert losses(tmp_path / "output") == without


def test_a_damaged_checkpoint_is_passed_over_and_its_step_saved_again(tmp_path, spoilt, without):
    """The checkpoint of step 6 is damaged as soon as it is there, and batch 7 is bad."""
    spoilt(one_bad)
    damaged = tmp_path / "output/checkpoints/6/extra/metadata"
    observer = Observer(
        lambda event: event.kind == "checkpoint" and (event.action, event.step) == ("committed", 6),
        lambda: damaged.write_bytes(damaged.read_bytes()[:-1]),
    )
    job = small_job(tmp_path, training=TRAINING, logging={"save_every": 2})
    assert live(job, tmp_path / "output", observer) == 0
    assert [event.step for event in observer.of("rewind")] == [4]
    assert observer.committed() == [2, 4, 6, 6, 8, 10, 12]
    assert losses(tmp_path / "output") == without


def test_without_a_checkpoint_it_begins_again_and_a_run_that_stays_bad_ends(tmp_path, spoilt):
    job = small_job(tmp_path, training=TRAINING, logging={"save_every": 0})
    spoilt(one_bad)
    observer = Observer()
    assert live(job, tmp_path / "output", observer) == 0
    assert [(event.step, event.batches) for event in observer.of("rewind")] == [(0, [BAD])]

    spoilt(lambda number, batch: not_a_number(batch) if number >= BAD else batch)
    observer = Observer()
    assert live(job, tmp_path / "worse", observer) == 71
    assert observer.finished.cause is Cause.NON_FINITE
    assert [event.batches for event in observer.of("rewind")] == [[BAD], [BAD + 1], [BAD + 2]]


def test_a_spike_is_found_and_its_batch_left_out(tmp_path, spoilt):
    def one_strange(number, batch):
        strange = np.full_like(batch.targets, 3)  # a byte that the corpus lacks
        return batch._replace(targets=strange) if number == 20 else batch

    spoilt(one_strange)
    training = {"max_steps": 24, "spike_threshold": 1.2, "learning_rate": 3e-2}
    stopped, went_back = Observer(), Observer()
    assert live(small_job(tmp_path, training=training), tmp_path / "stopped", stopped) == 71
    assert "is above training.spike_threshold 1.2 times" in stopped.finished.message
    job = small_job(tmp_path, training=training | {"on_bad_loss": "rewind"})
    assert live(job, tmp_path / "rewound", went_back) == 0
    [rewind] = went_back.of("rewind")
    assert (rewind.step, rewind.from_step, rewind.batches) == (16, 20, [20])
    assert [step for kind, step, _ in losses(tmp_path / "rewound") if kind == "step"] == list(range(1, 25))


@given(st.sets(st.integers(1, 60)), st.integers(1, 60))
def test_batches_are_those_not_left_out_in_order(left_out, steps):
    places = LeftOut({"batches": sorted(left_out)})
    found = [places.batch_of(step) for step in range(1, steps + 1)]
    assert found == [number for number in range(1, steps + 61) if number not in left_out][:steps]


@given(st.lists(st.floats(0.1, 10.0), max_size=120), st.floats(1.01, 5.0))
def test_spikes_are_judged_by_the_good_losses_before_them_across_restarts(losses, threshold):
    through, good = Spikes(threshold), list[float]()
    for loss in losses:
        recent = good[-64:]
        bad = len(recent) >= LEAST and loss > threshold * statistics.median(recent)
        assert (Spikes(threshold, through.state()).judge(loss) is not None) == bad
        assert (through.judge(loss) is not None) == bad
        good += [] if bad else [loss]
