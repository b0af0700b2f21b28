import asyncio
import os
import sys

import pytest

from service.launchers.base import ExportFailed, ExportRefused, NoExport
from service.launchers.local import LocalLauncher
from vishwamai.contract.export import ExportRequest

FAKE = """
import pathlib, sys
given = dict(option.removeprefix("--").split("=", 1) for option in sys.argv[1:])
if given["step"] == "13":
    sys.exit("error: the disk is no more")
to = pathlib.Path(given["to"])
to.mkdir(parents=True)
if given["step"] == "12":
    print("error: transformers cannot express this model", file=sys.stderr)
    sys.exit(2)
assert given["from"].endswith("/jobs/job-1")
(to / "config.json").write_text(given["dtype"])
count = pathlib.Path(given["from"]) / "count"
count.write_text(count.read_text() + "x" if count.exists() else "x")
"""


@pytest.fixture
def launcher(tmp_path):
    (tmp_path / "jobs" / "job-1").mkdir(parents=True)
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    environ = {"PATH": os.environ["PATH"]}
    return LocalLauncher(
        tmp_path, "http://127.0.0.1:1", python=sys.executable, export=(str(script),), export_seconds=60, environ=environ
    )


def export(launcher, step, dtype="float32"):
    return asyncio.run(launcher.export("job-1", step, ExportRequest(dtype=dtype)))


def test_the_same_export_is_made_once(launcher, tmp_path):
    first = export(launcher, 7, "bfloat16")
    assert first == export(launcher, 7, "bfloat16")
    assert first.folder == str(tmp_path / "jobs/job-1/exports/7-bfloat16")
    assert [(file.name, file.size_bytes) for file in first.files] == [("config.json", 8)]
    export(launcher, 7)
    assert (tmp_path / "jobs/job-1/count").read_text() == "xx"
    assert sorted(path.name for path in (tmp_path / "jobs/job-1/exports").iterdir()) == ["7-bfloat16", "7-float32"]
    path = asyncio.run(launcher.exported("job-1", 7, "bfloat16", "config.json"))
    assert path.read_text() == "bfloat16"


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [(12, ExportRefused, "^transformers cannot express this model$"), (13, ExportFailed, "^the disk is no more$")],
)
def test_what_fails_leaves_nothing(launcher, tmp_path, step, error, words):
    with pytest.raises(error, match=words):
        export(launcher, step)
    assert list((tmp_path / "jobs/job-1").glob("exports/*")) == []
    with pytest.raises(NoExport, match=f"step {step} has not been exported as float32"):
        asyncio.run(launcher.exported("job-1", step, "float32", "config.json"))


def test_a_file_that_is_not_there_and_one_that_is_elsewhere(launcher):
    export(launcher, 7)
    for name in ("weights", ".."):
        with pytest.raises(NoExport, match=r"there are config\.json"):
            asyncio.run(launcher.exported("job-1", 7, "float32", name))
