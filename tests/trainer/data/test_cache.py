import errno

import numpy as np
import pytest

from tests.trainer.data.corpora import TEXTS, open_corpus, write_jsonl
from trainer.data import cache, encode, prepare
from trainer.errors import StorageError, UserError


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", TEXTS)


@pytest.fixture
def tokenized(monkeypatch):
    """The number of times that a corpus was tokenized."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return encode.encode_all(*arguments)

    monkeypatch.setattr(prepare, "encode_all", counted)
    return calls


def assert_same(one, other):
    for step in (1, 7, 400_000):
        for left, right in zip(one.batch(step)[:4], other.batch(step)[:4], strict=True):
            np.testing.assert_array_equal(left, right)
    for left, right in zip(one.eval_batches(), other.eval_batches(), strict=True):
        np.testing.assert_array_equal(left.inputs, right.inputs)


def test_a_restart_does_not_tokenize_again(corpus, tokenized):
    assert_same(open_corpus(corpus), open_corpus(corpus))
    assert len(tokenized) == 1


@pytest.mark.parametrize(
    "change", [{"sequence": {"max_length": 32, "eos_token_id": 5}}, {"data": {"text_field": "source"}}, None]
)
def test_what_would_come_out_otherwise_is_tokenized_again(corpus, tokenized, change):
    open_corpus(corpus)
    if change is None:
        write_jsonl(corpus, [*TEXTS, "one more"])
    open_corpus(corpus, **(change or {}))
    assert len(tokenized) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"min_length": 20}},
        {"run": {"seed": 3}},
        {"model": {"max_seq_len": 16}, "sequence": {"max_length": 16, "min_length": 4}},
    ],
)
def test_other_windows_are_made_of_the_same_tokens(corpus, tokenized, change):
    one, other = open_corpus(corpus), open_corpus(corpus, **change)
    assert one.batch(1).inputs.tolist() != other.batch(1).inputs.tolist()
    assert len(tokenized) == 1


def test_text_and_its_prepared_folder_give_the_same_batches(corpus, tmp_path):
    raw = open_corpus(corpus)
    (folder,) = (tmp_path / "out" / "prepared").glob("[!.]*")
    prepared = open_corpus(folder)
    assert_same(raw, prepared)
    assert prepared.facts()["corpus_fingerprint"] == raw.facts()["corpus_fingerprint"]


def test_runs_share_the_folder_that_the_config_names(corpus, tmp_path, tokenized):
    shared = {"cache": str(tmp_path / "shared")}
    for run in ("one", "two"):
        open_corpus(corpus, output=tmp_path / run, data=shared)
        assert not (tmp_path / run).exists()
    assert len(tokenized) == 1


def test_a_damaged_corpus_is_set_aside_and_made_anew(corpus, tmp_path, tokenized, caplog):
    whole = open_corpus(corpus)
    (folder,) = (tmp_path / "out" / "prepared").glob("[!.]*")
    shard = folder / "tokens-00000.bin"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert_same(open_corpus(corpus), whole)
    assert "is damaged: it is set aside" in caplog.text
    assert folder.with_name(folder.name + ".damaged").is_dir()
    assert len(tokenized) == 2


class TestFolders:
    """Folders that take nothing: a file stands in their place, which stops root, too."""

    def test_a_cache_that_cannot_be_written_to_gives_way(self, corpus, tmp_path, caplog):
        (tmp_path / "shared").write_text("")
        data = open_corpus(corpus, data={"cache": str(tmp_path / "shared")})
        assert "is kept in" in caplog.text
        assert "worked out anew" not in caplog.text
        assert_same(data, open_corpus(corpus, output=tmp_path / "other"))

    def test_nor_can_the_runs_own(self, corpus, tmp_path):
        (tmp_path / "out").write_text("")
        with pytest.raises(UserError, match=r"tokenized text cannot be kept in .*name another folder in data\.cache"):
            open_corpus(corpus)

    def test_windows_of_a_folder_that_is_only_read_are_kept_by_the_run(self, corpus, tmp_path):
        raw = open_corpus(corpus, output=tmp_path / "raw")
        (folder,) = (tmp_path / "raw" / "prepared").glob("[!.]*")
        for path in sorted((folder / "plans").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        (folder / "plans").rmdir()
        (folder / "plans").write_text("")
        assert_same(raw, open_corpus(folder, output=tmp_path / "run"))
        assert list((tmp_path / "run" / "prepared").glob("plans-*/32-*/plan.json"))

    def test_a_full_disk_is_the_hosts_fault(self, corpus, monkeypatch):
        def full(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(cache, "prepare", full)
        with pytest.raises(StorageError, match=r"no room for tokenized text in .*No space left"):
            open_corpus(corpus)
