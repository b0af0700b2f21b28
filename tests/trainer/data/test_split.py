import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.data.corpora import TEXTS, documents_of, held_out_texts, open_corpus, write_jsonl
from trainer.data.documents import hold_out, join


def contents(documents):
    return [documents.document(i).tolist() for i in range(len(documents))]


@given(count=st.integers(2, 60), fraction=st.floats(0.001, 0.999), seed=st.integers(0, 2**32 - 1))
def test_every_document_is_on_one_side_and_no_side_is_empty(count, fraction, seed):
    documents = documents_of(*[3] * count)
    train, held_out = hold_out(documents, fraction, seed)
    assert sorted(contents(train) + contents(held_out)) == sorted(contents(documents))
    assert train
    assert held_out


def test_the_share_is_about_the_fraction():
    digests = [n.to_bytes(2, "big") for n in range(2000)]
    documents = join([np.array([2, 1])] * 2000, digests, np.dtype(np.int32))
    _, held_out = hold_out(documents, 0.1, seed=0)
    # Binomial with n = 2000, p = 0.1: five standard deviations.
    assert abs(len(held_out) - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5


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
    documents = documents_of(*[3] * 40)
    assert contents(hold_out(documents, 0.3, seed=0)[1]) != contents(hold_out(documents, 0.3, seed=1)[1])


def test_copies_of_a_document_are_on_one_side():
    documents = documents_of(*[3] * 40)
    doubled = join(2 * [documents.document(i) for i in range(40)], 2 * list(documents.digests), np.dtype(np.int32))
    train, held_out = hold_out(doubled, 0.3, seed=0)
    assert not set(train.digests) & set(held_out.digests)
    assert len(held_out) % 2 == 0


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
