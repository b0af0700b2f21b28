import json
from collections import Counter

import numpy as np
import pytest

from tests.trainer.data.corpora import TEXTS, held_out_texts, open_corpus, pieces_of, write_jsonl
from trainer.errors import UserError


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", TEXTS)


def rows(data, *steps):
    """Each row of these steps' batches, as something that can be counted."""
    return [row.tobytes() for step in steps for row in data.batch(step).inputs]


def assert_equal(one, other):
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


class TestBatch:
    def test_shapes(self, corpus):
        training, windows = {"batch_size": 3, "grad_accum_steps": 2}, {"max_length": 20}
        data = open_corpus(corpus, training=training, model={"max_seq_len": 20}, sequence=windows)
        batch = data.batch(1)
        assert [field.shape for field in batch[:4]] == [(6, 20)] * 4
        assert [str(field.dtype) for field in batch[:4]] == ["int32"] * 3 + ["float32"]

    def test_it_depends_on_config_and_step_alone(self, corpus):
        one, other = open_corpus(corpus), open_corpus(corpus)
        for step in (9, 1, 30, 2):
            assert_equal(one.batch(step), other.batch(step))
        assert rows(one, 1) != rows(one, 2)

    def test_steps_count_from_1(self, corpus):
        with pytest.raises(ValueError, match="count from 1"):
            open_corpus(corpus).batch(0)

    def test_the_seed_changes_the_order_only(self, corpus):
        one, other = (
            open_corpus(corpus, data={"eval_fraction": 0.0}, training={"batch_size": 1}, run={"seed": seed})
            for seed in (0, 1)
        )
        epoch = range(1, one.facts()["windows"] + 1)
        assert rows(one, *epoch) != rows(other, *epoch)
        assert Counter(rows(one, *epoch)) == Counter(rows(other, *epoch))

    @pytest.mark.parametrize("shuffle", [True, False])
    @pytest.mark.parametrize("batch_size", [1, 7, 64])
    def test_every_epoch_visits_every_window_once(self, corpus, shuffle, batch_size):
        data = open_corpus(corpus, data={"shuffle": shuffle}, training={"batch_size": batch_size})
        windows = data.facts()["windows"]
        visited = rows(data, *range(1, 3 * windows // batch_size + 2))
        epochs = [visited[start : start + windows] for start in range(0, 3 * windows, windows)]
        assert len(epochs[0]) == len(set(epochs[0])) == windows
        assert Counter(epochs[0]) == Counter(epochs[1]) == Counter(epochs[2])
        assert (epochs[0] == epochs[1]) is not shuffle

    def test_in_order_the_text_reads_on(self, corpus):
        data = open_corpus(
            corpus,
            data={"shuffle": False, "eval_fraction": 0.0},
            training={"batch_size": 1},
            model={"max_seq_len": 512},
        )
        epoch = range(1, data.facts()["windows"] + 1)
        texts = [data.tokenizer.decode(pieces_of(data.batch(step))[0]) for step in epoch]
        assert len(texts) > 1
        places = [TEXTS.index(text) for text in texts]  # no document is longer than the window
        assert places == sorted(places)

    def test_short_documents_are_left_out_and_counted(self, tmp_path):
        corpus = write_jsonl(tmp_path / "a.jsonl", ["abc", "abcd", "", "abcde"])
        data = open_corpus(corpus, data={"min_length": 4, "eval_fraction": 0.0, "shuffle": False})
        facts = data.facts()
        assert (facts["documents"], facts["documents_dropped"], facts["tokens"]) == (2, 2, 11)


class TestEvaluation:
    def test_batches_are_the_same_every_time(self, corpus):
        data = open_corpus(corpus, data={"eval_fraction": 0.3})
        assert data.eval_batches()
        for one, other in zip(data.eval_batches(), data.eval_batches(), strict=True):
            assert_equal(one, other)

    def test_few_windows_are_filled_up_with_weightless_rows(self, corpus):
        data = open_corpus(corpus, data={"eval_fraction": 0.1}, training={"batch_size": 64, "grad_accum_steps": 2})
        [batch] = data.eval_batches()
        assert batch.inputs.shape == (64, 32)
        facts = data.facts()
        assert 0 < facts["eval_windows"] < 64
        assert (batch.weights.sum(axis=1) > 0).tolist() == [True] * facts["eval_windows"] + [False] * (
            64 - facts["eval_windows"]
        )
        assert batch.weights.sum() == facts["eval_tokens"] - facts["eval_documents"]

    def test_many_windows_are_sampled_from_all_of_the_text(self, corpus):
        few, all_of_them = (
            open_corpus(corpus, data={"eval_fraction": 0.5, "eval_batches": most}, training={"batch_size": 4})
            for most in (2, 1000)
        )
        assert [batch.inputs.shape for batch in few.eval_batches()] == [(4, 32)] * 2
        windows = [row.tobytes() for batch in all_of_them.eval_batches() for row in batch.inputs]
        assert len(windows) >= all_of_them.facts()["eval_windows"] > 16
        numbers = [windows.index(row.tobytes()) for batch in few.eval_batches() for row in batch.inputs]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] >= all_of_them.facts()["eval_windows"] * 3 // 4

    def test_files_of_their_own(self, corpus, tmp_path):
        held_out = write_jsonl(tmp_path / "held_out.jsonl", ["a text that training never sees"])
        data = open_corpus(tmp_path / "*.jsonl", data={"eval": [str(held_out)]})
        facts = data.facts()
        assert (facts["split"], facts["files"], facts["files_held_out"]) == ("data.eval", 1, 1)
        assert (facts["documents"], facts["eval_documents"]) == (len(TEXTS), 1)
        assert held_out_texts(data) == "a text that training never sees|"

    def test_sets_by_name(self, corpus, tmp_path):
        for name in ("one", "two", "three"):
            write_jsonl(tmp_path / f"{name}.jsonl", [f"the text of {name}"] * (2 if name == "three" else 1))
        sets = {"wiki": ["one", "two"], "code": ["three"]}
        named = {name: [str(tmp_path / f"{file}.jsonl") for file in files] for name, files in sets.items()}
        data = open_corpus(tmp_path / "*.jsonl", data={"eval": named})
        found = {name: sum(int(batch.weights.sum()) for batch in sets) for name, sets in data.eval_sets().items()}
        assert found == {"wiki": 15 + 15, "code": 17 * 2}  # a target for each byte but the first, and for eos
        assert held_out_texts(data) == "the text of one|the text of two|"
        facts = data.facts()
        assert (facts["split"], facts["files"], facts["files_held_out"]) == ("data.eval", 1, 3)
        assert {name: one["documents"] for name, one in facts["eval_sets"].items()} == {"wiki": 2, "code": 2}
        assert facts["eval_documents"] == 4

    def test_a_set_without_text(self, corpus, tmp_path):
        (tmp_path / "none.txt").write_text("")
        with pytest.raises(UserError, match=r"data\.eval\.wiki: there is no text in .*none\.txt"):
            open_corpus(corpus, data={"eval": {"wiki": [str(tmp_path / "none.txt")]}})

    def test_all_files_held_out(self, corpus):
        with pytest.raises(UserError, match="nothing is left to train on"):
            open_corpus(corpus, data={"eval": [str(corpus)]})


class TestFacts:
    def test_they_are_json_and_add_up(self, corpus):
        facts = open_corpus(corpus, data={"eval_fraction": 0.2}).facts()
        assert json.loads(json.dumps(facts)) == facts
        assert facts["documents"] + facts["eval_documents"] == len(TEXTS)
        assert facts["tokens"] + facts["eval_tokens"] == sum(len(text) + 1 for text in TEXTS)
        targets = facts["tokens"] - facts["documents"]
        assert facts["packing_efficiency"] == pytest.approx(targets / (32 * facts["windows"]), abs=1e-6)
        assert 0.97 < facts["packing_efficiency"] <= 1.0
        assert facts["epochs"] == pytest.approx(20 * 8 / facts["windows"], abs=1e-6)
        assert facts["tokenizer"] == "byte"

    def test_the_fingerprint_is_that_of_the_text(self, tmp_path):
        one, same, other = (
            open_corpus(write_jsonl(tmp_path / f"{name}.jsonl", texts)).facts()["corpus_fingerprint"]
            for name, texts in [("one", TEXTS), ("same", TEXTS), ("other", [*TEXTS[:-1], "changed"])]
        )
        assert one == same != other
