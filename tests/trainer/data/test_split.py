import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.data.corpora import TEXTS, held_out_texts, open_corpus, write_jsonl
from trainer.data.split import held_out


def digests(count: int) -> np.ndarray:
    """uint64 [count, 2] of as many documents."""
    return np.random.default_rng(7).integers(0, 2**64, (count, 2), np.uint64)


@given(count=st.integers(2, 60), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**32 - 1))
def test_no_side_is_empty(count, fraction, seed):
    assert 0 < held_out(digests(count), fraction, seed).sum() < count


def test_the_share_is_about_the_fraction():
    # Binomial with n = 2000, p = 0.1: five standard deviations.
    assert abs(held_out(digests(2000), 0.1, seed=0).sum() - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5


def test_a_document_keeps_its_side_when_others_come(tmp_path):
    def held_out_of(texts):
        corpus = write_jsonl(tmp_path / "corpus.jsonl", texts)
        whole = {"max_seq_len": 2**14}
        data = open_corpus(corpus, data={"eval_fraction": 0.3}, model=whole)
        found = set(held_out_texts(data).split("|")) & set(TEXTS)
        assert len(found) == data.facts()["eval_documents"]
        return found

    few, many = held_out_of(TEXTS[:20]), held_out_of(TEXTS[20:] + TEXTS[:20])
    assert 0 < len(few) < len(many) < 40
    assert few == many & set(TEXTS[:20])


def test_another_seed_holds_out_others():
    assert (held_out(digests(40), 0.3, seed=0) != held_out(digests(40), 0.3, seed=1)).any()


def test_copies_of_a_document_are_on_one_side():
    mask = held_out(np.tile(digests(40), (2, 1)), 0.3, seed=0)
    assert mask.any()
    assert (mask[:40] == mask[40:]).all()


def test_of_copies_alone_one_is_trained_on():
    assert held_out(np.tile(digests(1), (3, 1)), 0.3, seed=0).tolist() == [False, True, True]


def test_of_a_single_document_the_tail_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefghij" * 100)
    data = open_corpus(tmp_path / "a.txt", data={"eval_fraction": 0.1})
    facts = data.facts()
    assert facts["split"] == "tail of the only document"
    assert (facts["tokens"], facts["eval_tokens"]) == (901, 100)
    assert held_out_texts(data).startswith("bcdefghijabc")


def test_of_a_tiny_document_nothing_is_held_out(tmp_path):
    (tmp_path / "a.txt").write_text("ab")
    data = open_corpus(tmp_path / "a.txt")
    assert (data.facts()["split"], data.eval_batches()) == ("none", [])


def test_no_fraction_holds_nothing_out(tmp_path):
    data = open_corpus(write_jsonl(tmp_path / "a.jsonl", TEXTS), data={"eval_fraction": 0.0})
    assert (data.facts()["split"], data.facts()["documents"], data.eval_batches()) == ("none", len(TEXTS), [])
