"""Each process reads its own rows of a batch, and together they make the batch, however many they are."""

from collections import Counter

import jax
import numpy as np
import pytest

from tests.trainer.batches import random_batch
from tests.trainer.data.corpora import TEXTS, open_corpus, write_jsonl
from tests.trainer.jobs import tiny_job
from trainer.mesh import batch_sharding, make_mesh
from trainer.step import put_batch, put_rows

LARGE = {"batch_size": 16}


@pytest.mark.parametrize("mesh", [{}, {"data": 4, "model": 2}, {"data": 2, "fsdp": 2, "sequence": 2}, {"data": 8}])
def test_rows_are_laid_over_the_mesh_like_a_batch(mesh):
    job = tiny_job(mesh=mesh, micro_batch=8)
    devices, whole = make_mesh(job), random_batch(job)
    whole = whole._replace(lesson={"logits": np.random.default_rng(0).normal(size=(8, 32, 3)).astype(np.float32)})
    asked = []

    def rows(ids):
        asked.extend(ids.tolist())
        return jax.tree.map(lambda field: field[ids - 100], whole)

    found, expected = put_rows(rows, np.arange(100, 108), devices), put_batch(whole, devices)
    assert asked == list(range(100, 108)), "each row is read once"
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.sharding == other.sharding
        np.testing.assert_array_equal(one, other)


def test_a_process_reads_the_rows_of_its_own_devices(monkeypatch):
    job = tiny_job(mesh={"data": 4, "model": 2}, micro_batch=8)
    devices, asked = make_mesh(job), []
    place = batch_sharding(devices)
    shards = place.devices_indices_map((8, 1))
    mine = {device: shards[device] for device in devices.devices[2:3].flat}
    monkeypatch.setattr(type(place), "addressable_devices_indices_map", lambda *_: mine)

    def rows(ids):
        asked.extend(ids.tolist())
        raise InterruptedError

    with pytest.raises(InterruptedError):
        put_rows(rows, np.arange(100, 108), devices)
    assert asked == [104, 105]


def test_the_number_of_hosts_may_change(tmp_path):
    """1 -> 2 -> 4 processes, each with data of its own, read what one uninterrupted process reads."""
    corpus = write_jsonl(tmp_path / "corpus.jsonl", TEXTS)
    whole = open_corpus(corpus, training=LARGE)
    expected = [row.tobytes() for step in range(1, 31) for row in whole.batch(step).inputs]
    found = []
    for steps, processes in ((range(1, 11), 1), (range(11, 21), 2), (range(21, 31), 4)):
        hosts = [
            open_corpus(corpus, output=tmp_path / f"{processes}-{host}", training=LARGE) for host in range(processes)
        ]
        for step in steps:
            for host, data in enumerate(hosts):
                own = np.split(data.window_ids(step), processes)[host]
                found += [row.tobytes() for row in data.rows(own).inputs]
    assert found == expected
    assert max(Counter(expected).values()) > 1, "more than an epoch"
