import pytest

from tests.trainer.checkpoints.fixtures import Recorder


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder(tmp_path / "checkpoints")
    yield recorder
    recorder.close()
