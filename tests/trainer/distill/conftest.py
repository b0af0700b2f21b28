import pytest

from tests.trainer.distill.teachers import trained_teacher
from tests.trainer.run.compiling import compile_once

__all__ = ["compile_once"]


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """The output folder of a trained teacher, which nobody changes."""
    return trained_teacher(tmp_path_factory.mktemp("teaching"))
