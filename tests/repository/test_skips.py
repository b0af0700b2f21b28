"""In CI a skip is a failure, whether a test skips or its whole file does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.mark.parametrize(
    ("fail_on_skip", "summary"),
    [("0", "1 passed, 2 skipped, 1 xfailed"), ("1", "1 passed, 1 xfailed, 2 errors")],
)
def test_skips(tmp_path, fail_on_skip, summary):
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_file.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "@pytest.mark.skip(reason='no database')\n"
        "def test_skips(): pass\n"
        "@pytest.mark.xfail\n"
        "def test_fails(): assert False\n"
    )
    environment = os.environ | {"VISHWAMAI_FAIL_ON_SKIP": fail_on_skip, "CI": "", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors", tmp_path]
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert summary in answer.stdout
    assert ("here a skip is a failure" in answer.stdout) == (fail_on_skip == "1")
    if fail_on_skip == "1":
        assert answer.returncode == 1
