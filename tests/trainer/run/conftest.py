import threading

import pytest

from tests.trainer.reporting.control_planes import planes
from tests.trainer.run.compiling import compile_once
from tests.trainer.run.lives import Observer, live, small_job

__all__ = ["compile_once", "planes"]


@pytest.fixture(autouse=True)
def abandoned_work_ends():
    """An ended run leaves its compilation behind, which a trainer's process does not outlive; this one does."""
    yield
    for thread in threading.enumerate():
        if thread.name == "interruptible":
            thread.join(60)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """Job, output folder and events of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    job, observer = small_job(folder), Observer()
    assert live(job, folder / "output", observer) == 0
    return job, folder / "output", observer
