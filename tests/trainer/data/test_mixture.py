import numpy as np
import pytest

from tests.trainer.data.corpora import TEXTS, open_corpus, pieces_of, write_jsonl
from tests.trainer.jobs import tiny_job
from trainer.data import open_data
from trainer.data.command import prepare_corpora
from trainer.errors import UserError


@pytest.fixture
def files(tmp_path):
    """Two sources that no character has in common."""
    letters = [text.translate(str.maketrans("0123456789", "abcdefghij")) for text in TEXTS[:20]]
    return write_jsonl(tmp_path / "numbers.jsonl", TEXTS), write_jsonl(tmp_path / "letters.jsonl", letters)


def mixed(*sources, folder, **sections):
    train = [{"name": name, "files": [str(file)], "weight": weight} for name, file, weight in sources]
    return open_data(tiny_job(data={"train": train}, **sections), folder)


def opened(files, folder, **sections):
    return mixed(("numbers", files[0], 3.0), ("letters", files[1], 1.0), folder=folder, **sections)


def is_letters(row):
    return bool(set(row.tolist()) & set(np.frombuffer(b"abcdefghij", np.uint8) + 2))  # as bytes become ids


def test_what_is_read_is_what_is_reported(files, tmp_path):
    data = opened(files, tmp_path / "out")
    rows = [row for step in range(1, 21) for row in data.batch(step).inputs]
    letters = sum(map(is_letters, rows))
    facts = data.facts()["mixture"]
    assert facts["letters"]["windows"] == letters
    assert facts["numbers"]["windows"] == len(rows) - letters
    assert letters == pytest.approx(len(rows) / 4, abs=2)
    assert (facts["letters"]["share_requested"], facts["letters"]["share"]) == (0.25, 0.25)
    tokens = sum(int(data.batch(step).weights.sum()) for step in range(1, 21))
    # The last epoch of a source is not whole, and its windows are not equally full.
    assert sum(one["tokens"] for one in facts.values()) == pytest.approx(tokens, rel=0.02)


def test_every_source_is_held_out_from(files, tmp_path):
    data = opened(files, tmp_path / "out", training={"batch_size": 2})
    evaluated = [row for batch in data.eval_batches() for row in batch.inputs[batch.weights.any(axis=1)]]
    assert {is_letters(row) for row in evaluated} == {True, False}
    assert len(evaluated) <= data.facts()["eval_windows"]


def test_weights_are_part_of_what_the_run_is_known_by(files, tmp_path):
    fingerprints = [
        mixed(("numbers", files[0], weight), ("letters", files[1], 1.0), folder=tmp_path / "out").facts()[
            "corpus_fingerprint"
        ]
        for weight in (1.0, 2.0)
    ]
    assert fingerprints[0] != fingerprints[1]


def test_a_mixture_of_one_is_that_one(files, tmp_path):
    alone, plain = mixed(("numbers", files[0], 2.0), folder=tmp_path / "out"), open_corpus(files[0])
    np.testing.assert_array_equal(alone.batch(5).inputs, plain.batch(5).inputs)
    assert alone.facts() == plain.facts()


def test_held_out_files_are_taken_from_every_source(files, tmp_path):
    train = [{"name": "a", "files": [str(files[0])]}, {"name": "b", "files": [str(tmp_path / "*.jsonl")]}]
    facts = open_data(tiny_job(data={"train": train, "eval": [str(files[1])]}), tmp_path / "out").facts()
    assert (facts["files"], facts["files_held_out"], facts["split"]) == (2, 1, "data.eval")
    with pytest.raises(UserError, match="nothing is left to train on"):
        open_data(tiny_job(data={"train": train, "eval": [str(files[0])]}), tmp_path / "out")


class TestCommand:
    def job(self, files):
        train = [{"name": name, "files": [str(file)]} for name, file in zip("ab", files, strict=True)]
        return tiny_job(data={"train": train})

    def test_a_folder_for_each_source(self, files, tmp_path):
        lines = list(prepare_corpora(self.job(files), tmp_path / "corpora", workers=1))
        assert [line.split(":")[0] for line in lines[::2]] == [str(tmp_path / "corpora" / name) for name in "ab"]
        size = sum(map(len, TEXTS))
        assert lines[0].endswith(
            f"{len(TEXTS)} documents of 1 files, {size + len(TEXTS):,} tokens, {size:,} bytes of text in 1 shards; "
            "0 empty ones dropped"
        )
        prepared = mixed(
            ("a", tmp_path / "corpora/a", 1.0), ("b", tmp_path / "corpora/b", 1.0), folder=tmp_path / "run"
        )
        assert not (tmp_path / "run").exists()
        raw = open_data(self.job(files), tmp_path / "raw")
        for step in (1, 50):
            assert pieces_of(prepared.batch(step)) == pieces_of(raw.batch(step))

    def test_again(self, files, tmp_path):
        once, twice = (list(prepare_corpora(self.job(files), tmp_path / "corpora", workers=1)) for _ in range(2))
        assert once == twice
        shard = tmp_path / "corpora/a/tokens-00000.bin"
        shard.write_bytes(bytes(shard.stat().st_size))
        with pytest.raises(UserError, match=r"--output: the shard .* is damaged"):
            list(prepare_corpora(self.job(files), tmp_path / "corpora", workers=1))

    def test_a_folder_of_something_else(self, files, tmp_path):
        with pytest.raises(UserError, match=r"--output: .*'.* holds something else: name a new folder"):
            list(prepare_corpora(tiny_job(data={"train": [str(files[0])]}), tmp_path, workers=1))
        list(prepare_corpora(tiny_job(data={"train": [str(files[0])]}), tmp_path / "one", workers=1))
        with pytest.raises(UserError, match=r"--output: .*one' was made of other files"):
            list(prepare_corpora(tiny_job(data={"train": [str(files[1])]}), tmp_path / "one", workers=1))
        with pytest.raises(UserError, match=r"data\.train: .*one' is prepared already"):
            list(prepare_corpora(tiny_job(data={"train": [str(tmp_path / "one")]}), tmp_path / "two", workers=1))
