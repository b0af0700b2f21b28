import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.data.corpora import TEXTS, open_corpus, write_jsonl, write_tokenizer
from trainer.data.tokenizers import open_tokenizer
from trainer.errors import UserError
from vishwamai.contract.config import SequenceSection


def sequence(pad=0, eos=1):
    return SequenceSection(pad_token_id=pad, eos_token_id=eos)


class TestBytes:
    @given(st.text(), st.integers(0, 257), st.integers(0, 257))
    def test_any_text_comes_back(self, text, pad, eos):
        tokenizer = open_tokenizer("byte", sequence(pad, eos))
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert len(ids) == len(text.encode())
        assert not {pad, eos} & set(ids.tolist())

    def test_bytes_take_the_ids_that_specials_leave(self):
        tokenizer = open_tokenizer("byte", sequence())
        assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id) == (258, 0, 1)
        assert tokenizer.encode("\x00a").tolist() == [2, 2 + ord("a")]
        assert open_tokenizer("byte", sequence(pad=257, eos=256)).encode("\x00a").tolist() == [0, ord("a")]

    def test_what_is_no_text_is_left_out_or_replaced(self):
        tokenizer = open_tokenizer("byte", sequence())
        ids = [0, *tokenizer.encode("hé").tolist()[:2], 1, 258, 131071, -1]
        assert tokenizer.decode(ids) == "h\ufffd"

    def test_many_texts_are_encoded_as_one_by_one(self):
        tokenizer = open_tokenizer("byte", sequence())
        for text, ids in zip(TEXTS, tokenizer.encode_many(TEXTS), strict=True):
            np.testing.assert_array_equal(ids, tokenizer.encode(text))

    def test_the_fingerprint_is_that_of_the_ids(self):
        assert open_tokenizer("byte", sequence()).fingerprint == open_tokenizer("byte", sequence()).fingerprint
        assert open_tokenizer("byte", sequence()).fingerprint != open_tokenizer("byte", sequence(eos=2)).fingerprint


class TestTokenizerJson:
    def test_text_comes_back(self, tmp_path):
        tokenizer = open_tokenizer(str(write_tokenizer(tmp_path / "tokenizer.json")), sequence())
        assert tokenizer.vocab_size == 7
        assert tokenizer.encode("to be or not").tolist() == [3, 4, 5, 6]
        assert [ids.tolist() for ids in tokenizer.encode_many(["to be", "or not to"])] == [[3, 4], [5, 6, 3]]
        assert tokenizer.decode([3, 4, 1, 0, 99]) == "to be"
        assert tokenizer.describe(tokenizer.eos_id) == "</s>"

    def test_a_folder_that_holds_one(self, tmp_path):
        write_tokenizer(tmp_path / "tokenizer.json")
        assert open_tokenizer(str(tmp_path), sequence()).vocab_size == 7

    def test_documents_end_with_eos(self, tmp_path):
        corpus = write_jsonl(tmp_path / "corpus.jsonl", ["to be or not to be"])
        tokenizer = write_tokenizer(tmp_path / "tokenizer.json")
        data = open_corpus(corpus, data={"tokenizer": str(tokenizer), "eval_fraction": 0.0})
        batch = data.batch(1)
        assert batch.inputs[0, :6].tolist() == [3, 4, 5, 6, 3, 4]
        assert batch.targets[0, :7].tolist() == [4, 5, 6, 3, 4, 1, 0]

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(UserError, match=r"data\.tokenizer: cannot read '.*none\.json' \(No such file"):
            open_tokenizer(str(tmp_path / "none.json"), sequence())

    def test_another_kind_of_file(self, tmp_path):
        (tmp_path / "tokenizer.json").write_text('{"model": 3}')
        with pytest.raises(UserError, match=r"data\.tokenizer: .* is not a tokenizer\.json"):
            open_tokenizer(str(tmp_path / "tokenizer.json"), sequence())


class TestTooLarge:
    def test_for_the_model(self, tmp_path):
        corpus = write_jsonl(tmp_path / "corpus.jsonl", TEXTS)
        tokenizer = str(write_tokenizer(tmp_path / "tokenizer.json"))
        with pytest.raises(UserError, match=r"has 7 tokens, but model\.vocab_size is 6: set .* at least 7"):
            open_corpus(corpus, model={"vocab_size": 6}, data={"tokenizer": tokenizer})

    @pytest.mark.parametrize(("name", "ids"), [("eos_token_id", (0, 258)), ("pad_token_id", (300, 1))])
    def test_a_special_token_for_the_tokenizer(self, name, ids):
        with pytest.raises(UserError, match=rf"sequence\.{name} is (258|300), but the tokenizer 'byte'.* 0 to 257"):
            open_tokenizer("byte", sequence(*ids))
