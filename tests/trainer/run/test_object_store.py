"""A run whose checkpoints are in an object store."""

import fsspec

from tests.trainer.checkpoints.object_store import BUCKET, object_store
from tests.trainer.run.lives import Observer, live, losses, small_job

__all__ = ["object_store"]


def test_a_run_goes_on_from_there_as_if_nothing_had_been(object_store, uninterrupted, tmp_path):
    _, whole, _ = uninterrupted
    directory = f"gs://{BUCKET}/run"
    job = small_job(tmp_path, checkpoint={"directory": directory})
    assert live(job, tmp_path / "output", Observer()) == 0
    fsspec.filesystem("gcs", finalize_on_close=True).rm(f"{directory}/12", recursive=True)
    second = Observer()
    assert live(job, tmp_path / "output", second, attempt=2) == 0
    assert [(event.action, event.step) for event in second.of("checkpoint")] == [("restored", 8), ("committed", 12)]
    assert losses(tmp_path / "output") == losses(whole)
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        "log.jsonl",
        "metrics.jsonl",
        "prepared",
        "resolved.json",
        "sample.txt",
    ]
