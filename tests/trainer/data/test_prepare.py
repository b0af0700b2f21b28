import json
import os
import shutil

import numpy as np
import pytest

from tests.trainer.data.corpora import TEXTS, open_corpus, write_jsonl, write_tokenizer
from trainer.data import encode, prepare, sources
from trainer.data.shards import Corpus
from trainer.data.tokenizers import open_tokenizer
from trainer.errors import StorageError, UserError
from vishwamai.contract.config import DataSection, SequenceSection

DATA = DataSection()


class Killer:
    """A tokenizer that ends the process it runs in."""

    vocab_size, eos_id = 10, 1

    def encode_many(self, texts):
        os._exit(9)


@pytest.fixture
def small(monkeypatch):
    """Chunks of a hundred characters."""
    monkeypatch.setattr(encode, "CHUNK", 100)


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", [*TEXTS[:20], "", *TEXTS[20:], ""])


def make(folder, file, tokenizer=None, **options):
    tokenizer = tokenizer or open_tokenizer("byte", SequenceSection())
    options = {"workers": 1, "shard_tokens": 1000} | options
    prepare.prepare(folder, [str(file)], DATA, tokenizer, "data.train", source="s", **options)
    return Corpus.open(folder, "data.train")


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_a_corpus_holds(corpus, tmp_path, small):
    found = make(tmp_path / "out", corpus)
    tokenizer = open_tokenizer("byte", SequenceSection())
    facts = found.manifest
    sizes = [shard.tokens for shard in facts.shards]
    assert len(sizes) > 2
    assert all(1000 <= size < 1600 for size in sizes[:-1])
    assert (facts.documents, facts.documents_dropped, facts.bytes_dropped) == (len(TEXTS), 2, 0)
    assert (facts.bytes, facts.tokens) == (sum(map(len, TEXTS)), sum(len(text) + 1 for text in TEXTS))
    documents = np.concatenate([found.documents(shard) for shard in range(len(sizes))])
    starts = np.cumsum(documents["tokens"]) - documents["tokens"]
    texts = [found.tokens(*place) for place in zip(starts.tolist(), documents["tokens"].tolist(), strict=True)]
    assert [tokenizer.decode(text[:-1]) for text in texts] == TEXTS
    assert {int(text[-1]) for text in texts} == {1}
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(2, "uint16"), (2**16, "uint16"), (2**16 + 1, "uint32")])
def test_ids_take_as_little_room_as_they_can(vocab_size, dtype):
    assert encode.token_dtype(vocab_size) == np.dtype(dtype)


def test_worker_processes_make_the_same_chunks(corpus, tmp_path, small):
    tokenizer = open_tokenizer(str(write_tokenizer(tmp_path / "tokenizer.json")), SequenceSection())
    texts = list(sources.read([str(corpus)], DATA, "data.train"))
    alone, together = (list(encode.encode_all(texts, tokenizer, workers, few=500)) for workers in (1, 2))
    assert len(alone) > 10
    for one, other in zip(alone, together, strict=True):
        assert (one.read, one.bytes_dropped) == (other.read, other.bytes_dropped)
        assert one.tokens.tobytes() == other.tokens.tobytes()
        assert one.documents.tobytes() == other.documents.tobytes()


def test_a_worker_that_is_killed(monkeypatch):
    chunks = encode._in_workers(iter([["a"]]), Killer(), 1)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="process that tokenizes was killed"):
        next(chunks)


def test_a_preparation_goes_on_where_it_was_killed(corpus, tmp_path, small, monkeypatch):
    whole = content(make(tmp_path / "whole", corpus).folder)
    read, encoded = sources.read, []

    def interrupted(*arguments):
        for number, text in enumerate(read(*arguments)):
            if number == 30:
                raise OSError("killed")
            yield text

    monkeypatch.setattr(sources, "read", interrupted)
    with pytest.raises(OSError, match="killed"):
        make(tmp_path / "out", corpus)
    monkeypatch.setattr(sources, "read", read)
    assert not (tmp_path / "out").exists()
    # What the kill left half written.
    complete = len(list((tmp_path / "out.partial").glob("*.record")))
    (tmp_path / "out.partial" / f"tokens-{complete:05}.bin").write_bytes(b"half")

    def counted(texts, tokenizer):
        encoded.extend(texts)
        return encode_chunk(texts, tokenizer)

    encode_chunk = encode.encode
    monkeypatch.setattr(encode, "encode", counted)
    assert content(make(tmp_path / "out", corpus).folder) == whole
    assert complete > 0
    assert 0 < len(encoded) < len(TEXTS) - 10


def test_what_another_preparation_left_is_removed(corpus, tmp_path, small):
    whole = content(make(tmp_path / "whole", corpus).folder)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "source").write_text("other 1000")
    (tmp_path / "out.partial" / "00000.record").write_text("{}")
    (tmp_path / "out.partial" / "tokens-00009.bin").write_bytes(b"other")
    assert content(make(tmp_path / "out", corpus).folder) == whole


class TestDamage:
    @pytest.fixture
    def folder(self, corpus, tmp_path, small):
        return make(tmp_path / "out", corpus).folder

    def refused(self, folder, **options):
        with pytest.raises(UserError) as caught:
            open_corpus(folder, output=folder.parent / "run", **options)
        assert str(caught.value).startswith("data.train: ")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda text: text[:100], "manifest.json' is damaged, or of another release"),
            (lambda text: text.replace('"format": 1', '"format": 2'), "of another release (format: "),
            (lambda text: text.replace('"tokens": 1', '"tokens": 2', 1), "do not have the"),
            (lambda text: "{}", "is damaged, or of another release (tokenizer: "),
        ],
    )
    def test_of_the_manifest(self, folder, change, words):
        path = folder / "manifest.json"
        path.write_text(change(path.read_text()))
        assert words in self.refused(folder)

    def test_a_shard_is_cut(self, folder):
        content = (folder / "tokens-00001.bin").read_bytes()
        (folder / "tokens-00001.bin").write_bytes(content[:-1])
        assert f"tokens-00001.bin' has {len(content) - 1} bytes, and the manifest says {len(content)}" in self.refused(
            folder
        )

    def test_a_shard_is_missing(self, folder):
        (folder / "documents-00000.bin").unlink()
        assert "documents-00000.bin' is missing" in self.refused(folder)

    def test_another_tokenizer(self, folder):
        message = self.refused(folder, sequence={"max_length": 32, "eos_token_id": 5})
        theirs = json.loads((folder / "manifest.json").read_text())["tokenizer_fingerprint"]
        assert f"the tokenizer 'byte' of 258 ids and hash {theirs[:12]}, and data.tokenizer 'byte' has 258" in message

    def test_a_changed_byte_is_found_by_whoever_reads_them_all(self, folder):
        corpus = Corpus.open(folder, "data.train")
        corpus.verify("data.train")
        content = bytearray((folder / "tokens-00001.bin").read_bytes())
        content[7] ^= 1
        (folder / "tokens-00001.bin").write_bytes(content)
        with pytest.raises(UserError, match=r"tokens-00001\.bin' is damaged: its bytes are not those"):
            corpus.verify("data.train")

    def test_it_shares_no_list_with_files(self, folder, corpus):
        with pytest.raises(UserError, match=r"data\.train: .*out' is a prepared folder, which cannot share a list"):
            open_corpus(corpus, folder)

    def test_windows_that_are_cut_are_worked_out_anew(self, folder, caplog):
        whole = open_corpus(folder).batch(3)
        (plan,) = (folder / "plans").glob("32-*")
        cut = (plan / "train.starts").read_bytes()[:-8]
        (plan / "train.starts").write_bytes(cut)
        again = open_corpus(folder).batch(3)
        assert "are worked out anew" in caplog.text
        for one, other in zip(whole[:4], again[:4], strict=True):
            np.testing.assert_array_equal(one, other)

    def test_windows_of_other_shards_are_not_used(self, folder, tmp_path, small):
        open_corpus(folder)
        file = write_jsonl(tmp_path / "other.jsonl", TEXTS[::-1])
        clean, other = make(tmp_path / "clean", file), make(tmp_path / "other", file)
        shutil.copytree(folder / "plans", other.folder / "plans")
        expected = open_corpus(clean.folder).batch(1)
        np.testing.assert_array_equal(open_corpus(other.folder).batch(1).inputs, expected.inputs)
