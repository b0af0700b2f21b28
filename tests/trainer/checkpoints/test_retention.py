"""Which checkpoints are kept, and that none goes before a newer one can be read."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.checkpoints.fixtures import abstract, make_state
from trainer.checkpoints.retention import loss_at, surplus
from vishwamai.contract.config import CheckpointSection

LOSSES = st.floats(allow_infinity=True, allow_nan=True)


def extra(step, **losses):
    return {"metrics": {"loss": 9.0, "evaluation": {"step": step, "losses": losses}}}


@given(
    committed=st.lists(st.integers(1, 200), unique=True, min_size=1).map(sorted),
    last=st.integers(1, 5),
    every=st.none() | st.integers(1, 50),
    best=st.none() | st.integers(1, 5),
    data=st.data(),
)
def test_kept_are_the_newest_every_nth_and_the_best(committed, last, every, best, data):
    losses = {step: data.draw(LOSSES) for step in committed if data.draw(st.booleans())}
    settings = CheckpointSection(keep_last=last, keep_every=every, keep_best=best)
    given_up = surplus(committed, settings, losses)
    kept = [step for step in committed if step not in given_up]
    assert given_up == sorted(set(committed) - set(kept))
    newest = committed[-last:]
    assert set(newest) <= set(kept)
    ranked = [step for step in committed if math.isfinite(losses.get(step, math.nan))]
    others = [step for step in kept if step not in newest and not (every and step % every == 0)]
    assert len(others) <= (best or 0), "nothing is kept without a reason"
    # The best of all are kept: whatever was given up is no better than `best` of the kept.
    for step in set(given_up) & set(ranked):
        assert sum(losses[one] <= losses[step] for one in set(kept) & set(ranked)) >= (best or 0)
    assert every is None or not [step for step in given_up if step % every == 0]


def test_only_the_loss_of_these_very_weights_ranks():
    assert loss_at(8, extra(8, eval=1.5, code=2.5), None) == 1.5
    assert loss_at(8, extra(8, eval=1.5, code=2.5), "code") == 2.5
    assert loss_at(8, extra(8, eval=1.5), "code") is None
    assert loss_at(8, extra(7, eval=1.5), None) is None
    assert loss_at(8, {"metrics": {"evaluation": None}}, None) is None
    assert loss_at(8, {"tokens": 5}, None) is None, "of an earlier release"


def test_the_best_stay_over_several_lives(recorder):
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.5), (5, math.nan)):
        checkpoints = recorder.open(keep_last=1, keep_best=2)
        checkpoints.restore(abstract(make_state(0)))
        checkpoints.save(make_state(step), step, extra(step, eval=loss))
        checkpoints.close()
    assert checkpoints.committed_steps() == [2, 3, 5]
    assert [step for action, step in recorder.told() if action == "deleted"] == [1, 4]


def test_nothing_is_deleted_while_the_newest_cannot_be_read_back(recorder):
    checkpoints = recorder.save(10, keep_last=1)
    damaged = recorder.directory / "20" / "state" / "manifest.ocdbt"

    class Rots(list):
        """Events; the disk loses bytes as soon as 20 is committed."""

        def append(self, event):
            super().append(event)
            if (event.action, event.step) == ("committed", 20) and len(self) == 1:
                damaged.write_bytes(damaged.read_bytes()[:-1])

    recorder.events = Rots()
    checkpoints._shelf._on_event = recorder.events.append
    checkpoints.save(make_state(20), 20, {})
    checkpoints.wait()
    assert recorder.told() == [("committed", 20), ("corrupt", 20)]
    assert recorder.names() == ["10", "20.corrupt"]
    checkpoints.save(make_state(20), 20, {})
    checkpoints.wait()
    assert recorder.names() == ["20", "20.corrupt"]


def test_a_set_that_is_not_evaluated_is_warned_of_once(recorder, caplog):
    checkpoints = recorder.open(keep_best=1, best_of="code")
    for step in (1, 2):
        checkpoints.save(make_state(step), step, extra(step, eval=1.0))
    checkpoints.wait()
    assert caplog.messages == ["no evaluation set is named 'code' (checkpoint.best_of)"]


def test_of_what_was_set_aside_the_newest_two_of_a_kind_stay(recorder, caplog):
    caplog.set_level("INFO", "trainer")
    (recorder.directory / "7.corrupt").mkdir(parents=True)
    for saved_at in (1, 2):
        recorder.save(10, 20, 30)
        (recorder.directory / "30" / f"round {saved_at}").touch()
        recorder.open(restore=10).restore(abstract(make_state(0)))
    assert recorder.names() == ["10", "20.superseded.2", "30.superseded.2", "7.corrupt"]
    assert (recorder.directory / "30.superseded.2" / "round 2").exists()
    deleted = [message for message in caplog.messages if message.startswith("deleted")]
    assert [message.split(":")[0].rpartition("/")[2] for message in deleted] == ["20.superseded", "30.superseded"]
