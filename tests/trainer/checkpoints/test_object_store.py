"""Checkpoints at a gs:// address, through Orbax, TensorStore and gcsfs, as an emulator of Google's answers them."""

import re
import threading
from contextlib import suppress
from http import HTTPStatus

import fsspec
import pytest

from tests.trainer.checkpoints.fixtures import Recorder, State, abstract, assert_same, make_state
from tests.trainer.checkpoints.object_store import BUCKET, object_store
from trainer.checkpoints import store
from trainer.errors import StorageError, UserError

__all__ = ["object_store"]


class Objects(Recorder):
    """As its base, at an address."""

    def __init__(self, path):
        super().__init__(f"gs://{BUCKET}/{path}")
        self.files = fsspec.filesystem("gcs", finalize_on_close=True)

    def names(self):
        return sorted(name.rsplit("/", 1)[1] for name in self.files.ls(self.directory, detail=False))


@pytest.fixture
def objects(object_store, request):
    objects = Objects(re.sub(r"\W", "_", request.node.name))
    yield objects
    objects.close()


def restored(objects, **settings):
    return objects.open(**settings).restore(abstract(make_state(0)))


def test_a_state_comes_back_onto_another_mesh_and_the_old_ones_go(objects):
    assert restored(objects) is None
    checkpoints = objects.open(keep_last=2)
    for step in (10, 20, 30):
        checkpoints.save(make_state(step, devices=8), step, {"saved_at": step})
    checkpoints.wait()
    assert objects.told() == [("committed", 10), ("committed", 20), ("committed", 30), ("deleted", 10)]
    assert objects.events[-2].path == f"{objects.directory}/30"
    assert objects.events[-2].size_bytes == sum(objects.files.du(f"{objects.directory}/30", total=False).values())
    assert objects.names() == ["20", "30"]
    again = restored(objects)
    assert (again.step, again.extra) == (30, {"saved_at": 30})
    assert_same(again.state, make_state(30))


def test_only_what_has_the_marker_is_committed_and_the_rest_is_removed(objects):
    """A save killed midway, and a deletion: both leave objects under the final name."""
    objects.save(10, 20)
    objects.files.rm(f"{objects.directory}/20/commit_success.txt")
    checkpoints = objects.open()
    assert checkpoints.committed_steps() == [10]
    assert objects.names() == ["10"]
    checkpoints.restore(abstract(make_state(0)))
    checkpoints.save(make_state(20), 20, {})
    checkpoints.wait()
    assert checkpoints.committed_steps() == [10, 20]


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_one_gives_way_to_the_one_before(objects, damage):
    objects.save(10, 20)
    name = f"{objects.directory}/20/state/array_metadatas/process_0"
    if damage == "missing":
        objects.files.rm(name)
    else:
        objects.files.pipe_file(name, objects.files.cat_file(name).replace(b"0", b"1"))
    assert restored(objects).step == 10
    assert objects.told() == [("corrupt", 20), ("restored", 10)]
    assert objects.names() == ["10", "20.corrupt"]


def test_a_newer_course_is_set_aside(objects):
    objects.save(10, 20)
    assert restored(objects, restore=10).step == 10
    assert objects.names() == ["10", "20.superseded"]


# One array: of several, Orbax abandons the others with noise on stderr. TensorStore's requests: gcsfs complains, too.
ONE_ARRAY = State(make_state(20).params["kernel"], (), ())
WRITTEN_BY_TENSORSTORE = "20/state/ocdbt"


def test_a_store_that_refuses_costs_that_save_alone(objects, object_store):
    checkpoints = objects.save(10)
    with object_store.answering(HTTPStatus.FORBIDDEN, WRITTEN_BY_TENSORSTORE):
        checkpoints.save(ONE_ARRAY, 20, {})
        with pytest.raises(StorageError, match=r"step 20 could not be saved to 'gs://.*are intact \(10\)"):
            checkpoints.wait()
    checkpoints.save(make_state(30), 30, {})
    checkpoints.wait()
    assert objects.told() == [("failed", 20), ("committed", 30)]


def test_a_store_that_takes_too_long_costs_that_save_alone(objects, object_store, monkeypatch):
    monkeypatch.setattr(store, "COMMIT_TIMEOUT_SECONDS", 1)
    checkpoints = objects.save(10)
    before = set(threading.enumerate())
    with object_store.answering(HTTPStatus.SERVICE_UNAVAILABLE, WRITTEN_BY_TENSORSTORE):
        checkpoints.save(ONE_ARRAY, 20, {})
        with pytest.raises(StorageError, match=r"step 20 could not be saved.*Timeout.*are intact \(10\)"):
            checkpoints.wait()
    # TensorStore goes on trying behind the scenes; a trainer's process does not wait for it, and this one would.
    for thread in set(threading.enumerate()) - before:
        with suppress(Exception):  # Orbax's threads raise to whoever joins them: what they wrote has been removed
            thread.join(20)
    checkpoints.save(make_state(30), 30, {})
    checkpoints.wait()
    assert objects.told() == [("failed", 20), ("committed", 30)]


def test_a_bucket_that_is_not_there(object_store):
    with pytest.raises(UserError, match=r"cannot be written to 'gs://elsewhere/run'.*name a bucket that is there"):
        Recorder("gs://elsewhere/run").open()
