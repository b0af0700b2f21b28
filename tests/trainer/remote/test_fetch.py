"""Models in object stores become folders of this machine."""

import numpy as np
import pytest

from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.huggingface.test_start import job_from
from tests.trainer.stores import put
from trainer.data.tokenizers import open_tokenizer
from trainer.distill.remote import with_local_models
from trainer.errors import StorageError, UserError
from trainer.huggingface import initial_params
from trainer.remote import Remote
from trainer.remote.fetch import fetched
from vishwamai.contract.config import SequenceSection

FIELD = "distillation.teacher_model"


@pytest.fixture
def model(store):
    """A checkpoint of Hugging Face, with the weights a second time in another format."""
    for name in ("config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin"):
        put(f"{store}/models/tiny/{name}", name.encode())
    return f"{store}/models/tiny"


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("store", ["memory", "s3", "gs"], indirect=True)
class TestEveryStore:
    def test_a_model_is_copied_once(self, model, tmp_path, monkeypatch, caplog):
        with caplog.at_level("INFO"):
            folder = fetched(model, FIELD, tmp_path / "cache")
        assert files(folder) == {name: name for name in ("config.json", "model.safetensors", "tokenizer.json")}
        assert f"{FIELD}: copying {model}, 0.0 MB in 3 files, to {folder}" in caplog.text
        with monkeypatch.context() as patch:
            patch.delattr(Remote, "download")
            assert fetched(model + "/", FIELD, tmp_path / "cache") == folder
        put(f"{model}/config.json", b"other......")
        assert files(fetched(model, FIELD, tmp_path / "cache"))["config.json"] == "other......"

    def test_a_run_is_copied_with_its_newest_checkpoint(self, store, tmp_path):
        put(f"{store}/runs/one/resolved.json", b"job")
        for step in (5, 20, 100):
            put(f"{store}/runs/one/checkpoints/{step}/state/a", f"{step}".encode())
        put(f"{store}/runs/one/checkpoints/300.corrupt/state/a", b"broken")
        newest = {"resolved.json": "job", "checkpoints/100/state/a": "100"}
        folder = fetched(f"{store}/runs/one", FIELD, tmp_path)
        assert files(folder) == newest
        assert fetched(f"{store}/runs/one/checkpoints", FIELD, tmp_path) == folder / "checkpoints"
        older = fetched(f"{store}/runs/one/checkpoints/20", FIELD, tmp_path)
        assert files(older) == {"state/a": "20"}
        assert (older.parents[1] / "resolved.json").read_text() == "job"
        with pytest.raises(UserError, match=r"there is no checkpoint '.*/checkpoints/7'"):
            fetched(f"{store}/runs/one/checkpoints/7", FIELD, tmp_path)

    def test_what_is_no_model(self, store, tmp_path):
        put(f"{store}/texts/a.txt", b"text")
        with pytest.raises(UserError, match=f"{FIELD}: '{store}/texts' holds neither a Hugging Face config.json nor"):
            fetched(f"{store}/texts", FIELD, tmp_path)
        with pytest.raises(UserError, match=f"{FIELD}: there is no '{store}/nothing'"):
            fetched(f"{store}/nothing", FIELD, tmp_path)
        put(f"{store}/run/resolved.json", b"job")
        with pytest.raises(UserError, match="is a run without checkpoints"):
            fetched(f"{store}/run", FIELD, tmp_path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", ["s3", "gs"], indirect=True)
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[::-1]])
def test_a_copy_that_is_not_whole(model, tmp_path, monkeypatch, damage):
    download = Remote.download

    def damaged(place, to):
        download(place, to)
        to.write_bytes(damage(to.read_bytes()))
        if model.startswith("s3"):  # tells no hash that can be relied on, but may have changed meanwhile
            put(place.address, b"another")

    monkeypatch.setattr(Remote, "download", damaged)
    with pytest.raises(StorageError, match=r"did not come whole|another hash"):
        fetched(model, FIELD, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", ["s3"], indirect=True)
class TestWhatUsesIt:
    def test_weights_to_start_from(self, store, tmp_path):
        local = job_from("llama31")
        for path in (FOLDER / "llama31").iterdir():
            put(f"{store}/llama/{path.name}", path.read_bytes())
        section = local.effective.checkpoint.model_copy(update={"init_from": f"{store}/llama"})
        far = local.model_copy(update={"effective": local.effective.model_copy(update={"checkpoint": section})})
        near = with_local_models(far, tmp_path)
        [decision] = [one for one in near.decisions if one.setting == "checkpoint.init_from"]
        assert (decision.requested, decision.effective) == (f"{store}/llama", near.effective.checkpoint.init_from)
        found, expected = initial_params(near), initial_params(local)
        np.testing.assert_array_equal(found["embedding"], expected["embedding"])
        assert with_local_models(local, tmp_path) is local

    def test_a_tokenizer(self, store, tmp_path):
        from tests.trainer.data.corpora import write_tokenizer

        put(f"{store}/words/tokenizer.json", write_tokenizer(tmp_path / "tokenizer.json").read_bytes())
        names = (f"{store}/words", f"{store}/words/tokenizer.json", str(tmp_path))
        prints = {open_tokenizer(name, SequenceSection()).fingerprint for name in names}
        assert len(prints) == 1
        with pytest.raises(UserError, match=f"data.tokenizer: there is no '{store}/none.json'"):
            open_tokenizer(f"{store}/none.json", SequenceSection())
