import pytest

from tests.client.bodies import START
from vishwamai.contract.api import Checkpoint, CheckpointList
from vishwamai.contract.export import ExportAnswer, ExportedFile

FILES = [ExportedFile(name="config.json", size_bytes=2), ExportedFile(name="model.safetensors", size_bytes=5)]
ANSWER = ExportAnswer(step=20, dtype="bfloat16", folder="data/jobs/j1/exports/20-bfloat16", files=FILES)
LINE = "POST /jobs/j1/checkpoints/20:export"
FETCHED = {f"GET /jobs/j1/checkpoints/20/export/{name}": text for name, text in
           {"config.json": "{}", "model.safetensors": "01234"}.items()}  # fmt: skip


def test_the_newest_is_exported_and_fetched(plane, run, tmp_path):
    newest = [Checkpoint(step=step, path=f"c/{step}", committed_at=START, attempt=1) for step in (20, 10)]
    there = plane({LINE: ANSWER, "GET /jobs/j1/checkpoints": CheckpointList(checkpoints=newest)} | FETCHED)
    result = run("export", "j1", "--to", str(tmp_path / "new"), "--dtype", "bfloat16", at=there)
    assert result.exit_code == 0, result.stderr
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == {
        "config.json": "{}",
        "model.safetensors": "01234",
    }
    assert there.bodies(LINE) == [{"dtype": "bfloat16"}]
    assert there.queries("GET /jobs/j1/checkpoints/20/export/config.json") == [{"dtype": ["bfloat16"]}]
    assert "checkpoint of step 20 as bfloat16" in result.stderr


def test_without_a_folder_it_stays_there(plane, run):
    result = run("export", "j1", "--step", "20", at=plane({LINE: ANSWER}))
    assert result.exit_code == 0
    assert "in data/jobs/j1/exports/20-bfloat16 on the server's machine" in result.stderr
    as_json = run("export", "j1", "--step", "20", "-o", "json", at=plane({LINE: ANSWER}))
    assert ExportAnswer.model_validate_json(as_json.stdout) == ANSWER


def test_a_folder_in_use_is_left_alone(plane, run, tmp_path):
    (tmp_path / "mine").touch()
    there = plane({LINE: ANSWER})
    result = run("export", "j1", "--step", "20", "--to", str(tmp_path), at=there)
    assert (result.exit_code, there.requests) == (2, [])
    assert "is in use" in result.stderr


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({LINE: (422, {"title": "Export refused", "status": 422, "detail": "no such family"})}, "no such family"),
        ({"GET /jobs/j1/checkpoints": CheckpointList(checkpoints=[])}, "no committed checkpoint"),
        ({LINE: ANSWER}, "nothing at GET /jobs/j1/checkpoints/20/export/config.json"),
    ],
)
def test_what_cannot_be_is_said(plane, run, tmp_path, answers, words):
    step = [] if LINE not in answers else ["--step", "20"]
    result = run("export", "j1", *step, "--to", str(tmp_path / "new"), at=plane(answers))
    assert result.exit_code != 0
    assert words in result.stderr
    assert list((tmp_path / "new").glob("*")) == []
