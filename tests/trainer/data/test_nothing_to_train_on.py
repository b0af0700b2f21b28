import pytest

from tests.trainer.data.corpora import TEXTS, open_corpus, write_jsonl
from trainer.errors import UserError


class TestNothingToTrainOn:
    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
    def test_an_empty_file(self, tmp_path, name):
        (tmp_path / name).write_text("")
        with pytest.raises(UserError, match=rf"data\.train: there is no text in .*{name}"):
            open_corpus(tmp_path / name)

    def test_only_short_documents(self, tmp_path):
        write_jsonl(tmp_path / "a.jsonl", ["abc", "de"])
        with pytest.raises(
            UserError, match=r"data\.train: data\.min_length 4 left out every document \(2\) of .*a\.jsonl"
        ):
            open_corpus(tmp_path / "a.jsonl", data={"min_length": 4})

    def test_everything_is_held_out(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", TEXTS)
        with pytest.raises(
            UserError, match=r"data\.train: data\.eval holds out every file of .*a\.jsonl, so .*: name others"
        ):
            open_corpus(path, data={"eval": [str(path)]})

    def test_an_empty_eval_file(self, tmp_path):
        write_jsonl(tmp_path / "a.jsonl", TEXTS)
        (tmp_path / "b.txt").write_text("")
        with pytest.raises(UserError, match=r"data\.eval: there is no text in .*b\.txt"):
            open_corpus(tmp_path / "a.jsonl", data={"eval": [str(tmp_path / "b.txt")]})
